"""Images with known poses, for training and for the demo: a renderer, a sampler, photographs."""
