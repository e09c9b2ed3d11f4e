"""The ranges of numbers in flags, each stated once.

Every number in a settings class has a lower and an upper bound. A number beyond its bounds is a slip of the hand or an
attack. It could start processes without end, fill the memory, or give a rate that becomes zero as a fraction.
tests/test_limits.py looks in every command for a field without bounds.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Frames per second. Anything slower is a slide show, and no camera is faster.
LOWEST_FPS, HIGHEST_FPS = 0.1, 1000
Rate = Annotated[float, Field(ge=LOWEST_FPS, le=HIGHEST_FPS)]

# As many as an index of clips may state: 18 hours at 16 frames per second.
MOST_FRAMES = 1 << 20
FrameCount = Annotated[int, Field(ge=1, le=MOST_FRAMES)]

# Seconds from one clip of a film to the next. Closer clips show nearly the same, and no film is longer than a day.
Stride = Annotated[float, Field(ge=0.1, le=86_400)]

# The largest seed for torch's generators, which also take negative ones. numpy's generators take none below 0.
MOST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=-MOST_SEED, le=MOST_SEED)]
NaturalSeed = Annotated[int, Field(ge=0, le=MOST_SEED)]

# Side of a picture in pixels: twice 8K.
MOST_PIXELS = 16_384

# Processes and threads of one machine, or for one video.
MOST_PROCESSES = 256
Processes = Annotated[int, Field(ge=0, le=MOST_PROCESSES)]

Share = Annotated[float, Field(ge=0, le=1)]

# How much something counts. 1 is as trained. Guidance is of the same order.
MOST_STRENGTH = 100
Strength = Annotated[float, Field(ge=0, le=MOST_STRENGTH)]
# Shift of noise levels. 1 moves nothing; models are trained at 3 to 12.
Shift = Annotated[float, Field(gt=0, le=100)]

# Things counted one by one: steps, epochs, clips, people.
MOST_COUNTED = 1_000_000_000
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
CountFrom1 = Annotated[int, Field(ge=1, le=MOST_COUNTED)]
# Things held in memory all at once: samples of a batch, rows and columns of a sheet.
MOST_AT_ONCE = 10_000
AtOnce = Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]

# Pixel values with which a model's training data were scaled.
MOST_PIXEL_VALUE = 10_000
PixelMean = Annotated[float, Field(ge=-MOST_PIXEL_VALUE, le=MOST_PIXEL_VALUE)]
PixelDeviation = Annotated[float, Field(ge=0.0001, le=MOST_PIXEL_VALUE)]
