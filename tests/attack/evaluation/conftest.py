import pytest

from tests.attack.evaluation import job


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The folder of the job, uninterrupted, and its evaluation."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, job.job(folder)
