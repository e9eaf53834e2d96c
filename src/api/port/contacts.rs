//! Wire types of contacts, imports, lists, segments and suppressions. Owns no state.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;

use super::Time;

/// How a CSV file is to be read. What is `None` is detected or takes the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportOptions {
    /// Column that holds the contact's key.
    pub key: String,
    /// List that the rows join; made if there is none.
    pub list: Option<String>,
    /// `channel:topic` to which every row consents; without it an import gives nobody consent.
    pub subscribe: Vec<String>,
    /// Subscribes also those who had unsubscribed.
    pub resubscribe: bool,
    pub dry_run: bool,
    /// Column name to attribute name; a column mapped to `""` is left out. Columns not named keep their name.
    pub mapping: BTreeMap<String, String>,
    /// Column name to type (`text`, `number`, `boolean`, `date_time`, `list`) where inference would be wrong.
    pub types: BTreeMap<String, String>,
    /// `,`, `;` or a tab.
    pub delimiter: Option<char>,
    /// `utf-8`, `utf-16le`, `utf-16be`, `latin-1`.
    pub encoding: Option<String>,
    /// Which row of a key that occurs twice in the file wins: `newest` (the last one, default) or `oldest`.
    pub duplicates: Option<String>,
    /// Country (ISO 3166 alpha-2) of phone numbers without a country code.
    pub default_country: Option<String>,
    /// What the file is called in reports; never opened.
    pub file_name: Option<String>,
    /// Names the request if it has an idempotency key: the same name is the same import.
    pub request: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportState {
    Running,
    Finished,
    Failed,
}

/// A column as it was understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportColumn {
    pub name: String,
    /// Attribute that it goes to; none if it is left out.
    pub attribute: Option<String>,
    #[serde(rename = "type")]
    pub kind: String,
    /// The attribute is new, its type inferred.
    pub new: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    pub id: u32,
    pub state: ImportState,
    pub dry_run: bool,
    pub file_name: Option<String>,
    pub list: Option<String>,
    /// Rows that made a new contact.
    pub accepted: u64,
    /// Rows that changed a present contact, or were superseded by another row of the file.
    pub merged: u64,
    pub rejected: u64,
    /// Rejected rows by reason.
    pub rejected_by: BTreeMap<String, u64>,
    /// How far it is.
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub delimiter: Option<String>,
    pub encoding: Option<String>,
    pub columns: Vec<ImportColumn>,
    /// Why it failed, and what to do.
    pub error: Option<String>,
    pub started_at: Time,
    pub finished_at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttributeView {
    pub name: String,
    /// `text`, `number`, `boolean`, `date_time`, `list`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `values`, `bit_sliced`, `none`.
    pub index: String,
    pub built_in: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAttribute {
    #[schema(example = "first_name")]
    pub name: String,
    /// `text`, `number`, `boolean`, `date_time`, `list`.
    #[serde(rename = "type")]
    #[schema(example = "text")]
    pub kind: String,
    /// `values`, `bit_sliced` or `none`; by default the one that serves the type.
    #[serde(default)]
    pub index: Option<String>,
}

/// A contact as the client writes it. `fields` holds the built-in ones (`email`, `phone`, `language`, `zone`,
/// `device_tokens`, …, `active`) and `attributes`; null removes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContactInput {
    /// `channel:topic` to `subscribed` or `unsubscribed`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(example = json!({"email:news": "subscribed"}))]
    pub consent: BTreeMap<String, String>,
    /// Where the consent comes from; by default `api`, or `cli` from the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_source: Option<String>,
    /// Built-in fields beside each other, own ones under `attributes`.
    #[serde(flatten)]
    #[schema(value_type = Object, example = json!({"email": "ada@example.test", "attributes": {"first_name": "Ada"}}))]
    pub fields: serde_json::Map<String, Json>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentView {
    pub channel: String,
    pub topic: String,
    /// `subscribed` or `unsubscribed`.
    pub status: String,
    pub source: Option<String>,
    pub at: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContactView {
    pub key: String,
    pub active: bool,
    pub created_at: Option<Time>,
    pub updated_at: Option<Time>,
    /// The state of today, one entry per channel and topic.
    pub consent: Vec<ConsentView>,
    /// Reasons for which the contact is suppressed; empty if it is not.
    pub suppressed: Vec<String>,
    pub lists: Vec<String>,
    /// Built-in fields that have a value, and `attributes`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub fields: serde_json::Map<String, Json>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    pub id: u32,
    pub name: String,
    pub contacts: u64,
    /// `import`, `api`, `segment`, …
    pub source: String,
    pub created_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewList {
    pub name: String,
    /// Keys of its first contacts.
    #[serde(default)]
    pub contacts: Vec<String>,
    /// Filled once from this expression.
    #[serde(default)]
    pub segment: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListChange {
    #[serde(default)]
    pub add: Vec<String>,
    #[serde(default)]
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListChanged {
    pub added: u64,
    pub removed: u64,
    /// Keys that no contact has.
    pub unknown: u64,
    pub contacts: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SegmentView {
    pub id: u32,
    pub name: String,
    pub expression: String,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSegment {
    pub name: String,
    #[schema(example = "country = \"FR\" and age >= 18")]
    pub expression: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SegmentPreviewRequest {
    #[schema(example = "country = \"FR\" and age >= 18")]
    pub expression: String,
    /// How many contacts to show; 0 to 100.
    #[serde(default = "ten")]
    pub sample: usize,
}

fn ten() -> usize {
    10
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SegmentPreview {
    /// Exact.
    pub count: u64,
    pub took_ms: f64,
    /// The expression as it was understood.
    pub canonical: String,
    /// Parts without an index, and how many records each had to read.
    pub scans: Vec<ScanView>,
    pub sample: Vec<ContactView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScanView {
    pub part: String,
    pub records: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionFilter {
    pub channel: Option<String>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuppressionView {
    pub id: u64,
    /// None: all channels.
    pub channel: Option<String>,
    /// `hard_bounce`, `complaint`, `manual`, `erased`, `unsubscribed`, …
    pub reason: String,
    /// Key of the contact. Of an entry by address: of the first contact that has the address now; the entry is the address's.
    pub contact: Option<String>,
    /// Salted hash of the address in hexadecimal, if it is by address. The address itself is not kept.
    pub address_hash: Option<String>,
    pub at: Time,
}

/// By `contact`, by `address` (hashed on entry), or by `address_hash` (from an export of the same data directory; a `contact`
/// beside it only says who had it).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSuppression {
    #[serde(default)]
    pub contact: Option<String>,
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub address_hash: Option<String>,
    /// None: all channels; needed with an address.
    #[serde(default)]
    pub channel: Option<String>,
    /// By default `manual`.
    #[serde(default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuppressionsAdded {
    pub added: u64,
    pub present: u64,
}
