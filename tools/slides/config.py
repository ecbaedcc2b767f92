"""nbconvert's settings for `make slides`: a page in the shape of a projector's, and what is higher made smaller."""

from pathlib import Path

c = get_config()  # noqa: F821 - nbconvert gives it
c.SlidesExporter.reveal_width, c.SlidesExporter.reveal_height = "1500", "1000"
c.TemplateExporter.extra_template_basedirs = [str(Path(__file__).resolve().parent.parent)]
c.TemplateExporter.template_name = "slides"
