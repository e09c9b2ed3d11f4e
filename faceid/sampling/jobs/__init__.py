"""Render many videos: plan jobs, share them among workers, publish each once, and show them."""
