"""What every door of a server shares: admission, jobs, models, logs, metrics, audit."""
