"""Wan loading, latents, prompts, face adapter, LoRA, pipeline.

The only door to diffusers and peft.
"""
