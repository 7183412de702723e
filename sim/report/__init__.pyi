from .data import ReportData as ReportData
from .data import report_data as report_data
from .figures.mapping import save_mapping as save_mapping
from .page import comparison_html as comparison_html
from .page import report_html as report_html
from .provenance import Fact as Fact
from .provenance import Provenance as Provenance
from .score import Score as Score
