//! Campaigns over an uploaded one-shot file: what their audience must say.
//!
//! | code | what |
//! |---|---|
//! | `unknown_upload` | no upload has this id or name |
//! | `consent_not_confirmed` | nobody has confirmed that the people of the file agreed to hear from the sender |
//! | `consent_without_upload` | contacts of the base have a consent of their own |
//! | `upload_wrong_channel` | no row of the upload has an address on the message's channel |
//! | `upload_in_sequence` | a sequence sets attributes of contacts, and the rows of a file are none |
//! | `upload_recurring` | the rows of a file do not change: every launch would go to the same people |
//! | `upload_address_once` | `same_address = "allow"`: an address of an upload gets one message |
//!
//! The confirmation stands in for the consent to a topic, so that the message may have none. Opt-outs and suppressions win
//! over it, by address.

use super::spec::{CampaignSpec, Kind, SameAddress};
use super::suggest::did_you_mean;
use super::validate::{Names, Problem};
use crate::ids::Channel;

/// An upload that a spec may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadName {
    pub id: u32,
    pub name: String,
    /// Of which rows have addresses.
    pub channels: Vec<Channel>,
}

impl UploadName {
    pub fn is_called(&self, text: &str) -> bool {
        text.parse::<u32>().map_or(self.name == text, |id| self.id == id)
    }
}

/// Whether the spec's audience is an upload.
pub fn is_wanted(spec: &CampaignSpec) -> bool {
    spec.audience.upload.is_some()
}

pub(super) fn problems(spec: &CampaignSpec, names: &dyn Names, found: &mut Vec<Problem>) {
    let confirmed = spec.audience.consent_confirmed == Some(true);
    let Some(upload) = &spec.audience.upload else {
        if confirmed {
            let message = "consent_confirmed belongs to an uploaded file, and this audience is of the contact base";
            let fix = "remove it: consent of contacts is what was recorded of each";
            found.push(Problem::error("consent_without_upload", "audience.consent_confirmed", message, fix));
        }
        return;
    };
    if !confirmed {
        let message = "nobody has confirmed that the people of the file agreed to be written to";
        let fix = "if they did, set audience.consent_confirmed = true: it is recorded with who and when";
        found.push(Problem::error("consent_not_confirmed", "audience.consent_confirmed", message, fix));
    }
    if spec.same_address == Some(SameAddress::Allow) {
        let message = "an address of an upload gets one message, however often the file has it";
        let fix = "remove same_address, or set it to \"newest\" (the last row counts) or \"oldest\" (the first one)";
        found.push(Problem::error("upload_address_once", "same_address", message, fix));
    }
    if spec.kind() == Kind::Sequence {
        let message = "a sequence goes on for weeks with contacts whose attributes it sets, and the rows of a file are no contacts";
        let fix = "import the file as contacts, make a list of them, and use that";
        found.push(Problem::error("upload_in_sequence", "audience.upload", message, fix));
    }
    if spec.schedule.every.is_some() {
        let message = "the people of a file do not change, and each launch would write to all of them again";
        let fix = "launch it at one time or several dates, or import the file as contacts and use a segment";
        found.push(Problem::error("upload_recurring", "schedule.every", message, fix));
    }
    let uploads = names.uploads();
    let Some(known) = uploads.iter().find(|known| known.is_called(upload)) else {
        let near = did_you_mean(upload, uploads.iter().map(|known| known.name.as_str()));
        // A saved spec names its upload by id.
        let message = match upload.parse::<u32>() {
            Ok(id) => format!("there is no upload {id}: it was removed, or never was"),
            Err(_) => format!("no upload has the id or name {upload:?}{near}"),
        };
        let fix =
            "upload the file with estafette audience upload FILE --name NAME, and set audience.upload to that name";
        found.push(Problem::error("unknown_upload", "audience.upload", message, fix));
        return;
    };
    if let Some(channel) = spec.message.channel.filter(|channel| !known.channels.contains(channel)) {
        let has: Vec<&str> = known.channels.iter().map(|c| c.name()).collect();
        let (message, fix) = if has.is_empty() {
            let message = format!("no row of the upload {:?} has a valid address", known.name);
            (message, "see why in estafette audience invalid NAME, mend the file, and upload it again")
        } else {
            let has = has.join(", ");
            let message = format!("upload {:?} has no addresses for {channel}; it has them for {has}", known.name);
            (message, "set message.channel to one of these, or upload a file with such a column")
        };
        found.push(Problem::error("upload_wrong_channel", "audience.upload", message, fix));
    }
}
