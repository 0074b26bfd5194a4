"""tfx.v1, imported ahead of the steps that run TFX's executors; with it comes KerasTuner, which has to work with tf_keras."""

from components.io.keras import arrange

arrange()

import tfx.v1  # noqa: E402, F401 after what it depends on
