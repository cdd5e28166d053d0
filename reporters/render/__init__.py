"""A report as a page, as text and as data; and the page that lists all cases."""

from reporters.render.html import render_html
from reporters.render.index import render_index
from reporters.render.pictures import SlidePictures, take_pictures
from reporters.render.text import render_text

__all__ = ["SlidePictures", "render_html", "render_index", "render_text", "take_pictures"]
