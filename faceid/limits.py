"""Numbers that flags may be, said once: every field of a settings class that is a number has both ends.

A number beyond them is a slip of the hand or an attack: processes without end, memory that no machine has, a rate that
is zero as soon as it is a fraction. tests/test_limits.py walks every command for a field without them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Frames per second. Slower is a slide show, faster is no camera.
LOWEST_FPS, HIGHEST_FPS = 0.1, 1000
Rate = Annotated[float, Field(ge=LOWEST_FPS, le=HIGHEST_FPS)]

# As many as an index of clips may say: 18 hours at 16 frames per second.
MOST_FRAMES = 1 << 20
FrameCount = Annotated[int, Field(ge=1, le=MOST_FRAMES)]

# Seconds from one clip of a film to the next: closer ones show nearly the same, and a day is longer than any film.
Stride = Annotated[float, Field(ge=0.1, le=86_400)]

# What torch's generators take, on both sides of 0; numpy's take none below.
MOST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=-MOST_SEED, le=MOST_SEED)]
NaturalSeed = Annotated[int, Field(ge=0, le=MOST_SEED)]

# Sides of pictures, pixels: twice 8K.
MOST_PIXELS = 16_384

# Processes and threads of one machine, and of one video.
MOST_PROCESSES = 256
Processes = Annotated[int, Field(ge=0, le=MOST_PROCESSES)]

Share = Annotated[float, Field(ge=0, le=1)]

# How much something counts, 1 being as trained; guidance is of the same order.
MOST_STRENGTH = 100
Strength = Annotated[float, Field(ge=0, le=MOST_STRENGTH)]
# Of noise levels; 1 moves nothing, models are trained at 3 to 12.
Shift = Annotated[float, Field(gt=0, le=100)]

# Steps, epochs, clips, people: what is counted one by one.
MOST_COUNTED = 1_000_000_000
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
CountFrom1 = Annotated[int, Field(ge=1, le=MOST_COUNTED)]
# What is held in memory all at once: samples of a batch, rows and columns of a sheet.
MOST_AT_ONCE = 10_000
AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]

# Of pixel values: what a model's training data were scaled with.
MOST_PIXEL_VALUE = 10_000
PixelMean = Annotated[float, Field(ge=-MOST_PIXEL_VALUE, le=MOST_PIXEL_VALUE)]
PixelDeviation = Annotated[float, Field(ge=0.0001, le=MOST_PIXEL_VALUE)]
