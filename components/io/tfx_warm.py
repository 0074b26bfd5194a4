"""tfx.v1, imported ahead of the steps that run TFX's executors."""

from components.io.tfx_ahead import prepare

prepare()

import tfx.v1  # noqa: E402, F401 after what it depends on
