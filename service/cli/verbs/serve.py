"""`serve` runs a worker on given servers; `dev` brings the servers too."""

from service.app import serve as serve_until_stopped
from service.cli.main import app, run
from service.cli.output import ERR
from service.cli.surroundings import embedded, endpoints, settings
from service.logs import configure


@app.command()
def serve() -> None:
    """Run a worker, the tick emitter and the metrics page. They end at SIGTERM or Ctrl-C."""
    chosen = settings()
    configure(chosen)
    run(serve_until_stopped(chosen, endpoints(chosen)))


@app.command()
def dev() -> None:
    """Run the service with the embedded broker and database. Until Ctrl-C; data stays in TURNSTILE_DATA_DIR."""
    chosen = settings()
    configure(chosen)

    async def work() -> None:
        async with embedded(chosen) as given:
            ERR.print(f"The broker is at {given.bootstrap_servers}; Ctrl-C stops everything.", markup=False)
            ERR.print("In another terminal: `turnstile doctor` shows what runs, `turnstile --help` what to do.")
            await serve_until_stopped(chosen, given)

    run(work())
