//! An engine process: start, wait until it is ready, kill, end.
//!
//! Owns the child and the configuration file it wrote. Invariants: 1. readiness is the engine's own word (`/ready`), and
//! the addresses are those of this start: the address files are removed before; 2. no child outlives its owner.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::api::Api;

/// The admin key that the harness gives to the engines it starts.
pub const ADMIN_KEY: &str = "loadtest-admin-key-0123456789abcdefghijklmn";
/// Time for SIGTERM to drain.
const DRAIN: Duration = Duration::from_secs(60);

/// What to start, and where.
#[derive(Clone, Debug)]
pub struct ServerPlan {
    pub binary: PathBuf,
    /// Lines of shell that begin the process in place of the engine itself, which is `"$0"` and its arguments `"$@"`.
    /// Not a script in a file: between its writing and its start another thread may fork, and as long as that child
    /// holds the file open for writing the kernel refuses to run it (ETXTBSY).
    pub through: Option<String>,
    pub data: PathBuf,
    pub config: PathBuf,
    pub log: PathBuf,
}

/// Addresses that the engine's configuration names.
#[derive(Clone, Debug, Default)]
pub struct Connectors {
    /// Port of an SMTP relay on loopback, as connector `relay`.
    pub relay_port: Option<u16>,
    pub connections: u64,
    /// Lines added to the relay's table.
    pub relay_extra: String,
    /// Lines added to the server's table.
    pub server_extra: String,
    /// A connector `null` of kind `null`.
    pub null: bool,
}

impl Connectors {
    /// The configuration file.
    pub fn to_toml(&self) -> String {
        let mut text = "[server]\napi_listen = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:8026\"\n".to_owned();
        text.push_str(&self.server_extra);
        if let Some(port) = self.relay_port {
            text.push_str(&format!(
                "\n[[connectors]]\nname = \"relay\"\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
                 connections_max = {}\n{}\n",
                self.connections, self.relay_extra
            ));
        }
        if self.null {
            text.push_str("\n[[connectors]]\nname = \"null\"\nkind = \"null\"\n");
        }
        text
    }
}

/// A running engine.
#[derive(Debug)]
pub struct Server {
    child: Child,
    api: Api,
    recovery: Duration,
}

impl ServerPlan {
    /// A data directory, a configuration and a log in `folder`.
    pub fn new(binary: &Path, folder: &Path, connectors: &Connectors) -> anyhow::Result<ServerPlan> {
        let config = folder.join("estafette.toml");
        fs::write(&config, connectors.to_toml()).with_context(|| format!("writing {}", config.display()))?;
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        Ok(ServerPlan { binary: binary.to_owned(), through: None, data, config, log: folder.join("estafette.log") })
    }

    /// The engine's program, to which a subcommand is to be given.
    pub fn command(&self) -> Command {
        let Some(lines) = &self.through else { return Command::new(&self.binary) };
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(lines).arg(&self.binary);
        shell
    }

    /// Starts the process and does not wait for it.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        for name in ["api.addr", "public.addr"] {
            match fs::remove_file(self.data.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing the old {name}"));
                }
                _ => {}
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("opening the log")?;
        let errors = log.try_clone().context("opening the log twice")?;
        self.command()
            .arg("serve")
            .arg("--data")
            .arg(&self.data)
            .arg("--config")
            .arg(&self.config)
            .env("ESTAFETTE_ADMIN_KEY", ADMIN_KEY)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}: build it with `cargo build --release`", self.binary.display()))
    }

    /// Starts the engine and waits until it says that it is ready.
    pub fn start(&self, patience: Duration) -> anyhow::Result<Server> {
        let started = Instant::now();
        let mut child = self.spawn()?;
        match self.wait_ready(&mut child, started + patience) {
            Ok(api) => Ok(Server { child, api, recovery: started.elapsed() }),
            Err(error) => {
                end(&mut child);
                Err(error.context(format!("last lines of its log:\n{}", self.log_tail())))
            }
        }
    }

    fn wait_ready(&self, child: &mut Child, until: Instant) -> anyhow::Result<Api> {
        let mut api: Option<Api> = None;
        loop {
            if let Some(status) = child.try_wait().context("asking after the engine")? {
                bail!("the engine ended at its start with {status}");
            }
            if api.is_none() {
                let address = fs::read_to_string(self.data.join("api.addr")).unwrap_or_default();
                if address.trim().parse::<std::net::SocketAddr>().is_ok() {
                    api = Some(Api::new(address.trim(), ADMIN_KEY)?);
                }
            }
            if let Some(ready) = api.take_if(|api| api.is_ready()) {
                return Ok(ready);
            }
            if Instant::now() >= until {
                bail!("the engine is not ready in time (address known: {})", api.is_some());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The last lines of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Server {
    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Time from the start of the process until it was ready.
    pub fn recovery(&self) -> Duration {
        self.recovery
    }

    /// `kill -9`, and reaped.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().context("killing the engine")?;
        self.child.wait().context("reaping the engine")?;
        Ok(())
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// SIGTERM; the engine must drain and exit with 0.
    pub fn terminate(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("pid of the engine")?;
        kill_process(pid, Signal::TERM).context("telling the engine to end")?;
        let until = Instant::now() + DRAIN;
        loop {
            match self.child.try_wait().context("waiting for the engine")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the engine ended with {status} on SIGTERM"),
                None if Instant::now() >= until => bail!("the engine did not end within {DRAIN:?} of SIGTERM"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only when the child is gone already.
    child.kill().ok();
    child.wait().ok();
}

/// The engine's binary: the one named, else `ESTAFETTE_BIN`, else the one beside this program.
pub fn find_binary(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().context("finding this program")?.with_file_name("estafette");
    let path =
        named.map(Path::to_owned).or_else(|| std::env::var_os("ESTAFETTE_BIN").map(PathBuf::from)).unwrap_or(beside);
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => bail!(
            "no engine at {} ({error}): build it with `cargo build --release`, or name one with --engine or ESTAFETTE_BIN",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_and_holds_what_was_asked() {
        let connectors = Connectors {
            relay_port: Some(2525),
            connections: 7,
            relay_extra: "retry_schedule_seconds = [1]".to_owned(),
            server_extra: "schedule_safety_minutes = 0\n".to_owned(),
            null: true,
        };
        let parsed: toml::Table = connectors.to_toml().parse().unwrap();
        let tables = parsed["connectors"].as_array().unwrap();
        assert_eq!(tables.len(), 2, "relay and null");
        assert_eq!(tables[0]["port"].as_integer(), Some(2525), "the sink's port");
        assert_eq!(tables[0]["retry_schedule_seconds"].as_array().map(Vec::len), Some(1), "extras are kept");
        assert_eq!(parsed["server"]["schedule_safety_minutes"].as_integer(), Some(0), "those of the server, too");
    }

    #[test]
    fn an_engine_that_ends_at_once_is_an_error_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let plan = ServerPlan::new(Path::new("/bin/false"), dir.path(), &Connectors::default()).unwrap();
        let error = plan.start(Duration::from_secs(5)).unwrap_err();
        assert!(format!("{error:#}").contains("ended at its start"), "{error:#}");
    }
}
