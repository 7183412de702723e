from .address import check_executor as check_executor
from .address import parse_executor as parse_executor
from .job import Job as Job
from .job import Package as Package
from .run import finished_jobs as finished_jobs
