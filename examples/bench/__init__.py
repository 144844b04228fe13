"""What git forge costs beside plain git, measured: each measurement times both in turn, in one run."""
