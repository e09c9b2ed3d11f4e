"""Check that rendered videos show the right person in the right pose.

The results are scores with intervals, and a report.
"""
