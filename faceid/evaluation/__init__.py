"""Whether rendered videos show the right person in the right pose: scores with intervals, and a report to look at."""
