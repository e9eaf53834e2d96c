//! `estafette inbound`: one report from standard input, as an MTA pipes it, becomes an event of the server.
//!
//! Owns no state. Invariants: IB-1 the exit code is one of sysexits.h that an MTA acts on: 0 taken in, 75 (EX_TEMPFAIL) try again
//! later, 65 (EX_DATAERR) never; IB-2 whatever a person has to mend here (key, address of the server) is 75, so that the report waits
//! in the MTA's queue instead of being lost; IB-3 the whole input is read, or the MTA would see a broken pipe; IB-4 the same report
//! twice is one event, because its id follows from message and kind.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value as Json, json};

use super::args::Connection;
use super::client::{CallError, CallResult, Client};
use super::{Exit, output};
use crate::channels::inbound::{Inbound, Report, read};
use crate::content::RETURN_PATH_PREFIX;
use crate::limits::INBOUND_BYTES_MAX;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct InboundArgs {
    /// The address that the report was sent to, as the MTA knows it; otherwise it is looked for in the headers.
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// File that holds the key of the API, for programs whose environment and arguments others can see; it goes before --api-key.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

const HELP: &str = "In Postfix' master.cf (one line):
  estafette unix - n n - 10 pipe flags=Rq user=estafette
    argv=/usr/local/bin/estafette inbound --key-file /etc/estafette/key --recipient ${original_recipient}
and in its transport map, for the domain of mail.return_path_domain:
  bounces.example.com estafette:

Exit codes of sysexits.h: 0 taken in, or nothing to take (an automatic reply, a delay); 65 damaged or forged;
75 the server is not reached or refuses the key: the MTA keeps the report and tries again.";

/// The only refusal after which another part of the report may still name the message.
const FOREIGN: &str = "event_foreign_message";

pub(super) fn run(connection: &Connection, options: &InboundArgs, as_json: bool) -> anyhow::Result<Exit> {
    let mail = match read_input(&mut std::io::stdin().lock()) {
        Ok(mail) => mail,
        Err(error) => {
            output::note(&format!("standard input cannot be read: {error}"));
            return Ok(Exit::TryLater);
        }
    };
    match read(&mail, options.recipient.as_deref()) {
        Err(error) => {
            output::note(&format!("not taken: {error}"));
            Ok(Exit::BadData)
        }
        Ok(Inbound::Ignored(why)) => {
            said(&json!({"result": "ignored", "message": why.to_string()}), &format!("ignored: {why}"), as_json)?;
            Ok(Exit::Done)
        }
        Ok(Inbound::Report(report)) => {
            let client = match client(connection, options) {
                Ok(client) => client,
                Err(error) => {
                    output::note(&format!("not taken yet: {error:#}"));
                    return Ok(Exit::TryLater);
                }
            };
            hand_over(&report, |event| client.post("/v1/events", event), as_json)
        }
    }
}

fn client(connection: &Connection, options: &InboundArgs) -> anyhow::Result<Client> {
    let key = match &options.key_file {
        None => connection.api_key.clone(),
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
            Some(text.trim().to_owned())
        }
    };
    Client::new(&connection.url, key.as_deref())
}

/// The first bytes of the input, up to what is read for a report; the rest is read and dropped.
fn read_input(input: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut mail = Vec::new();
    let most = INBOUND_BYTES_MAX as u64;
    input.by_ref().take(most).read_to_end(&mut mail)?;
    std::io::copy(input, &mut std::io::sink())?;
    Ok(mail)
}

/// Posts the event, by one name of the message after the other until the server knows one.
fn hand_over(report: &Report, post: impl Fn(&Json) -> CallResult<Json>, as_json: bool) -> anyhow::Result<Exit> {
    let mut refused = String::new();
    for message_id in &report.message_ids {
        let answer = match post(&event(report, message_id)) {
            Ok(answer) => answer,
            Err(error) => {
                let exit = exit_of(&error);
                output::note(&format!("not taken{}: {error}", if exit == Exit::TryLater { " yet" } else { "" }));
                return Ok(exit);
            }
        };
        let result = &answer["results"][0];
        if result["result"] != "refused" {
            let (kind, class) = report.happened.event();
            let words = output::clean(&report.words);
            let line = format!("{}: {kind} {} ({words})", output::text(&result["result"]), class.unwrap_or(""));
            said(result, &line, as_json)?;
            return Ok(Exit::Done);
        }
        refused = format!("{} [{}]", output::text(&result["message"]), output::text(&result["code"]));
        if result["code"] != FOREIGN {
            break;
        }
    }
    output::note(&format!("not taken: {refused}"));
    Ok(Exit::BadData)
}

fn event(report: &Report, message_id: &str) -> Json {
    let (kind, class) = report.happened.event();
    // The return path and the Message-ID carry the same token: one report names the one, another one the other.
    let local = message_id.split('@').next().unwrap_or(message_id).to_ascii_lowercase();
    let token = local.strip_prefix(RETURN_PATH_PREFIX).unwrap_or(&local);
    let id = format!("inbound:{kind}:{}:{token}", class.unwrap_or("-"));
    json!([{
        "id": id, "type": kind, "class": class, "message_id": message_id, "properties": {"words": report.words},
    }])
}

fn said(result: &Json, line: &str, as_json: bool) -> anyhow::Result<()> {
    if as_json { output::json(result) } else { output::line(line) }
}

/// What the MTA is to do after a failure of the call.
fn exit_of(error: &CallError) -> Exit {
    match error {
        CallError::Refused { status: 400 | 413 | 415 | 422, .. } => Exit::BadData,
        CallError::NoKey | CallError::Unreachable { .. } | CallError::Refused { .. } | CallError::BadAnswer { .. } => {
            Exit::TryLater
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::api::errors::{Code, ErrorBody};
    use crate::channels::inbound::Happened;

    fn report(ids: &[&str]) -> Report {
        let message_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Report { happened: Happened::HardBounce, message_ids, words: "5.1.1 no such user".into() }
    }

    fn refused(status: u16) -> CallError {
        CallError::Refused { status, body: Box::new(ErrorBody::new(Code::Internal, "x".into(), Json::Null)) }
    }

    #[test]
    fn names_of_the_message_are_tried_until_the_server_knows_one() {
        let asked = RefCell::new(Vec::new());
        let answer = |event: &Json| {
            let id = event[0]["message_id"].as_str().unwrap_or_default().to_owned();
            asked.borrow_mut().push(id.clone());
            Ok(match id.as_str() {
                "own@x" => json!({"results": [{"result": "accepted"}]}),
                "early@x" => json!({"results": [{"result": "refused", "code": "event_not_sent", "message": "m"}]}),
                _ => json!({"results": [{"result": "refused", "code": FOREIGN, "message": "m"}]}),
            })
        };
        let exit = |ids: &[&str]| hand_over(&report(ids), answer, true).unwrap();
        assert_eq!(exit(&["forged@x", "own@x", "other@x"]), Exit::Done, "the second one");
        assert_eq!(*asked.borrow(), ["forged@x", "own@x"], "and no more");
        assert_eq!(exit(&["forged@x"]), Exit::BadData, "a forged one alone");
        assert_eq!(exit(&["early@x", "own@x"]), Exit::BadData, "another refusal is final");
    }

    #[test]
    fn what_a_person_can_mend_makes_the_report_wait() {
        for error in
            [CallError::NoKey, refused(401), refused(403), refused(404), refused(429), refused(500), refused(507)]
        {
            assert_eq!(exit_of(&error), Exit::TryLater, "{error}");
        }
        assert_eq!(exit_of(&refused(422)), Exit::BadData, "the report itself");
    }

    #[test]
    fn the_id_follows_from_message_and_kind() {
        let one = event(&report(&[]), "bounce+ABC@b.test");
        assert_eq!(one[0]["id"], "inbound:bounced:hard:abc");
        assert_eq!(one[0]["id"], event(&report(&[]), "abc@x.test")[0]["id"], "by whichever of its names");
        assert_eq!(one, event(&report(&[]), "bounce+ABC@b.test"), "whenever it comes");
    }

    #[test]
    fn the_whole_input_is_read() {
        let mut input = std::io::repeat(b'a').take(INBOUND_BYTES_MAX as u64 + 10);
        assert_eq!(read_input(&mut input).unwrap().len(), INBOUND_BYTES_MAX, "what is looked at");
        assert_eq!(input.limit(), 0, "and the rest is gone, too");
    }
}
