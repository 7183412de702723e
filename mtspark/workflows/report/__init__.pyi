from .page import ReportPage as ReportPage
from .page import report as report
from .page import write_page as write_page
from .request import ReportRequest as ReportRequest
from .stored import StoredReport as StoredReport
from .stored import stored_report as stored_report
