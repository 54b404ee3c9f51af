"""A queue of trainings that resumes by itself: `python -m training.campaign`."""
