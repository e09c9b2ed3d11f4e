"""What a run says about itself while it trains, on clips, poses and people that it does not learn from."""
