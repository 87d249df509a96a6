"""As a script: fetch the model of ENDPOINT into FOLDER, in a process that a test may kill."""

import sys
from pathlib import Path

from convert.source import Hub, RetryLimits, fetch, list_source

if __name__ == "__main__":
    endpoint, folder, model = sys.argv[1:]
    hub = Hub(endpoint, Path(folder) / "hub", Path(folder) / "notes", retry=RetryLimits(read_timeout_s=20))
    pinned = fetch(list_source(model, hub=hub), hub=hub)
    print(pinned.files["model.safetensors"].sha256)
