//! `estafette backup` and `estafette restore`. A backup of a running server is asked of the server, one of a stopped
//! directory is made here. Owns no state.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

use super::args::Connection;
use super::client::Client;
use super::host::Host;
use super::{Exit, output};
use crate::engine::backup::Manifest;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  estafette backup /var/backups/estafette/monday              of the running server, which writes it\n  \
        estafette backup monday --data data                         of a directory that no server has open\n  \
        estafette check --data /var/backups/estafette/monday        whether it is whole\n  \
        estafette restore /var/backups/estafette/monday --data new  and then: estafette serve --data new --restored"
)]
pub struct Backup {
    /// Folder to make; on the machine of the server, if that is asked.
    pub folder: PathBuf,
    /// Copy this data directory here and now; no server may have it open.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Return when the server has begun, and do not wait for the end.
    #[arg(long, conflicts_with = "data")]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    /// Folder of the backup.
    pub backup: PathBuf,
    /// Data directory to make.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

pub(super) fn backup(
    host: &dyn Host,
    connection: &Connection,
    options: &Backup,
    as_json: bool,
) -> anyhow::Result<Exit> {
    let Some(data) = &options.data else {
        let client = Client::new(&connection.url, connection.api_key.as_deref())?;
        return online(&client, options, as_json);
    };
    anyhow::ensure!(data.is_dir(), "{} is not a directory", data.display());
    let folder = std::path::absolute(&options.folder).context("finding the folder")?;
    let manifest = host.backup(data, &folder).context("the backup was not made")?;
    print_made(&folder, &manifest, as_json)?;
    Ok(Exit::Done)
}

fn online(client: &Client, options: &Backup, as_json: bool) -> anyhow::Result<Exit> {
    let folder = std::path::absolute(&options.folder).context("finding the folder")?;
    let mut status = client.post("/v1/backups", &json!({"folder": folder}))?;
    if !options.no_wait {
        let bar = bar("backup");
        while status["state"] == "running" {
            bar.set_length(status["bytes_total"].as_u64().unwrap_or(0));
            bar.set_position(status["bytes_done"].as_u64().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(100));
            status = client.get(&format!("/v1/backups/{}", status["id"]), &[])?;
        }
        bar.finish_and_clear();
    }
    if as_json {
        output::json(&status)?;
    } else {
        output::line(&told(&status))?;
    }
    Ok(if status["state"] == "failed" { Exit::ServerFailed } else { Exit::Done })
}

/// A backup of the server in a line.
fn told(status: &Json) -> String {
    let folder = output::text(&status["folder"]);
    match status["state"].as_str() {
        Some("failed") => format!("backup {} was not made: {}", status["id"], output::text(&status["error"])),
        Some("finished") => {
            let bytes = output::grouped(status["bytes"].as_u64().unwrap_or(0));
            format!("backup {folder}: {} files, {bytes} bytes, up to frame {}", status["files"], status["last_seq"])
        }
        _ => format!("backup {} is being made at {folder}", status["id"]),
    }
}

fn print_made(folder: &Path, manifest: &Manifest, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return output::json(&json!({"folder": folder, "state": "finished", "backup": manifest.id,
            "last_seq": manifest.last_seq, "bytes": manifest.bytes(), "files": manifest.files.len()}));
    }
    let (files, bytes) = (manifest.files.len(), output::grouped(manifest.bytes()));
    output::line(&format!(
        "backup {}: {files} files, {bytes} bytes, up to frame {}",
        folder.display(),
        manifest.last_seq
    ))
}

pub(super) fn restore(host: &dyn Host, options: &Restore, as_json: bool) -> anyhow::Result<Exit> {
    let data = std::path::absolute(&options.data).context("finding the folder")?;
    let bar = bar("restore");
    let done = Cell::new(0);
    let manifest = host.restore(&options.backup, &data, &|bytes| {
        done.set(done.get() + bytes);
        bar.set_position(done.get());
    });
    bar.finish_and_clear();
    let manifest = manifest.context("nothing was restored")?;
    if as_json {
        output::json(&json!({"data": data, "backup": manifest.id, "made_at": manifest.made_at,
            "last_seq": manifest.last_seq, "files": manifest.files.len()}))?;
        return Ok(Exit::Done);
    }
    let data = data.display();
    output::line(&format!("restored to {data}: the backup of {}, {} files", manifest.made_at, manifest.files.len()))?;
    output::line(&format!(
        "start it with: estafette serve --data {data} --restored\nRunning campaigns are then held, and who may have been sent to since {} \
         is unknown: see them with `campaign contacts NAME --set unknown`, say what became of them with `campaign settle`, \
         then resume.",
        manifest.made_at
    ))?;
    Ok(Exit::Done)
}

/// A bar over bytes; hidden if standard error is no terminal.
fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:8} [{bar:32}] {bytes}/{total_bytes}  {bytes_per_sec}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_backup_is_told_in_a_line() {
        let status = json!({"id": 2, "folder": "/b", "state": "finished", "bytes": 12_345, "files": 7, "last_seq": 99});
        assert_eq!(told(&status), "backup /b: 7 files, 12 345 bytes, up to frame 99");
        let status = json!({"id": 2, "folder": "/b", "state": "failed", "error": "the disk is full"});
        assert!(told(&status).contains("was not made: the disk is full"), "{}", told(&status));
    }
}
