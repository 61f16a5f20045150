"""What a run did to customers: the JSON document, the terminal's verdict, the chart and the page.

Reads records and nothing else; the three renderings take the document alone, so that a saved one can be rendered again.
"""

from .measure import build_report
from .page import write_page
from .picture import write_chart
from .shape import Report
from .text import print_text

__all__ = ["Report", "build_report", "print_text", "write_chart", "write_page"]
