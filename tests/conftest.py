"""Before any test: `utils` sets how torch's threads wait, and must be imported before torch."""

import utils  # noqa: F401
