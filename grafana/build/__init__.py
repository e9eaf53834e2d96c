"""The dashboards of Estafette as code: one module a dashboard, `python -m build` (in `grafana/`) writes them all."""
