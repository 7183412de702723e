from .labelled import DATA as DATA
from .labelled import LABELS as LABELS
from .labelled import score_labelled as score_labelled
from .page import typed_command as typed_command
from .page import written_page as written_page
