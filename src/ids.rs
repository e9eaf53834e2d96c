//! Names of things: one newtype per kind of id, so that a row is never mistaken for a run.
//!
//! Owns no state. Knows nothing of what the ids point to.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

numeric_id!(
    /// Dense row of a contact within one [`RowSpace`]; the only id inside bitmaps. Never reused.
    ContactRow(u32), "row-");
numeric_id!(
    /// What a row number counts in: the contact base, or one uploaded one-shot file.
    RowSpace(u32), "space-");
numeric_id!(
    /// An attribute of the schema; ids below [`AttributeId::FIRST_OWN`] are built in.
    AttributeId(u16), "attribute-");
numeric_id!(ListId(u32), "list-");
numeric_id!(SegmentId(u32), "segment-");
numeric_id!(CampaignId(u32), "campaign-");
numeric_id!(
    /// One execution of a campaign.
    RunId(u32), "run-");
numeric_id!(
    /// A message of a run: content for one channel, one variant.
    MessageId(u16), "message-");
numeric_id!(
    /// One claim: up to `BATCH_CONTACTS_MAX` rows for one message on one connector.
    BatchId(u64), "batch-");
numeric_id!(ImportId(u32), "import-");

impl RowSpace {
    /// The contact base.
    pub const BASE: RowSpace = RowSpace(0);
    /// Rows that name nobody: those of runs whose details were removed. No upload gets this number.
    pub const NOBODY: RowSpace = RowSpace(u32::MAX);
}

/// One send group of a run: the scope of promise 1 and the unit of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    pub run: RunId,
    pub index: u16,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/delivery-{}", self.run, self.index)
    }
}

impl AttributeId {
    pub const KEY: AttributeId = AttributeId(0);
    pub const EMAIL: AttributeId = AttributeId(1);
    pub const PHONE: AttributeId = AttributeId(2);
    pub const LANGUAGE: AttributeId = AttributeId(3);
    pub const ZONE: AttributeId = AttributeId(4);
    /// Derived from the e-mail address: its domain in ASCII form, lower case.
    pub const EMAIL_DOMAIN: AttributeId = AttributeId(5);
    pub const CREATED: AttributeId = AttributeId(6);
    pub const UPDATED: AttributeId = AttributeId(7);
    pub const DEVICE_TOKENS: AttributeId = AttributeId(8);
    pub const WEB_PUSH: AttributeId = AttributeId(9);
    pub const IN_APP: AttributeId = AttributeId(10);
    pub const POSTAL: AttributeId = AttributeId(11);
    pub const WHATSAPP: AttributeId = AttributeId(12);
    /// `true` unless the contact was deactivated.
    pub const ACTIVE: AttributeId = AttributeId(13);
    /// The first id that a sender's own attribute can have.
    pub const FIRST_OWN: u16 = 64;

    pub fn is_built_in(self) -> bool {
        self.0 < Self::FIRST_OWN
    }
}

/// A way to reach a contact. The number is part of on-disk formats and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Channel {
    Email = 1,
    Sms = 2,
    Whatsapp = 3,
    Push = 4,
    WebPush = 5,
    InApp = 6,
    Webhook = 7,
}

impl Channel {
    pub const ALL: [Channel; 7] = [
        Channel::Email,
        Channel::Sms,
        Channel::Whatsapp,
        Channel::Push,
        Channel::WebPush,
        Channel::InApp,
        Channel::Webhook,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Channel::Email => "email",
            Channel::Sms => "sms",
            Channel::Whatsapp => "whatsapp",
            Channel::Push => "push",
            Channel::WebPush => "web_push",
            Channel::InApp => "in_app",
            Channel::Webhook => "webhook",
        }
    }

    pub fn from_name(name: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|c| c.name() == name)
    }

    /// The field of a record that holds this channel's address; webhooks address the contact by its key.
    pub fn address_attribute(self) -> AttributeId {
        match self {
            Channel::Email => AttributeId::EMAIL,
            Channel::Sms => AttributeId::PHONE,
            Channel::Whatsapp => AttributeId::WHATSAPP,
            Channel::Push => AttributeId::DEVICE_TOKENS,
            Channel::WebPush => AttributeId::WEB_PUSH,
            Channel::InApp => AttributeId::IN_APP,
            Channel::Webhook => AttributeId::KEY,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Salted hash of a normalised address of one channel; what duplicates and suppressions compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressHash(pub [u8; 16]);
