"""Sections of sample.py from flags, and the same with other flags: as a command line would give them."""

from dataclasses import fields

from faceid.config import build_sections
from faceid.sampling.render_sections import OF_BATCH_ALONE, SECTIONS, RenderSections


def sections_of(**flags):
    """What a command line with these flags asks for."""
    return RenderSections(*build_sections(SECTIONS, flags))


def changed(sections, **flags):
    """The same command line with other values for some flags."""
    return sections_of(**{**sections.flags, **flags})


def for_one(sections, **flags):
    """The same for a single video: nothing that a batch alone has."""
    defaults = {field.name: field.default for section in SECTIONS for field in fields(section)}
    return changed(sections, **{name: defaults[name] for name in ("batch", *OF_BATCH_ALONE)}, **flags)
