//! What each column of an upload is for: an address, a variable, or nothing.
//!
//! Owns nothing. `phone`, `email` and `id` are addresses; `id` is that of the chosen channel, never a contact key. Every other
//! column is a variable, by its name in lower case with `_` for what is no letter or digit; `language` and `zone` mean
//! what they mean for a contact. A name that the store keeps for itself gives no variable, and the summary says so.

use serde::{Deserialize, Serialize};

use crate::contacts::csv_import::plan::attribute_name;
use crate::contacts::one_shot::UploadError;
use crate::contacts::schema::{AttributeType, IndexKind, Schema};
use crate::ids::{AttributeId, Channel};

/// One column, as the sender sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadColumn {
    /// As the header has it, trimmed.
    pub name: String,
    /// What templates and expressions call it; `None`: it cannot be used.
    pub variable: Option<String>,
    /// Why it cannot be used.
    pub unusable: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The address of these channels.
    Address(Vec<Channel>),
    Language,
    Zone,
    Variable(AttributeId),
    Nothing,
}

/// The columns with where they go.
pub(super) struct ColumnPlan {
    pub(super) columns: Vec<UploadColumn>,
    pub(super) targets: Vec<Target>,
    pub(super) channels: Vec<Channel>,
    pub(super) channel: Channel,
    /// The column with the addresses of the chosen channel.
    pub(super) main: Option<usize>,
    schema: Schema,
}

impl ColumnPlan {
    pub(super) fn make(header: &[String], channel: Channel) -> Result<ColumnPlan, UploadError> {
        if channel == Channel::Webhook {
            return Err(UploadError::Webhook);
        }
        let names: Vec<String> = header.iter().map(|name| attribute_name(name)).collect();
        one_variable_each(header, &names)?;
        let at = |wanted: &str| names.iter().position(|name| name == wanted);
        let (phone, email, id) = (at("phone"), at("email"), at("id"));
        if phone.is_none() && email.is_none() && id.is_none() {
            return Err(UploadError::NoAddressColumn { present: header.to_vec() });
        }
        let named = match channel {
            Channel::Email => email,
            Channel::Sms | Channel::Whatsapp => phone,
            _ => None,
        };
        if let (Some(named), Some(_)) = (named, id) {
            return Err(UploadError::TwoAddressColumns { named: header[named].clone(), channel });
        }
        let mut plan = ColumnPlan {
            columns: Vec::with_capacity(header.len()),
            targets: Vec::with_capacity(header.len()),
            channels: Vec::new(),
            channel,
            main: named.or(id),
            schema: Schema::built_in(),
        };
        for (name, variable) in header.iter().zip(&names) {
            plan.add(name, variable);
        }
        Ok(plan)
    }

    fn add(&mut self, name: &str, variable: &str) {
        let own = self.channel;
        let (target, variable, unusable) = match variable {
            "email" => (Target::Address(vec![Channel::Email]), "email", None),
            "phone" if own == Channel::Whatsapp => {
                (Target::Address(vec![Channel::Sms, Channel::Whatsapp]), "phone", None)
            }
            "phone" => (Target::Address(vec![Channel::Sms]), "phone", None),
            "id" => (Target::Address(vec![own]), address_variable(own), None),
            "language" => (Target::Language, "language", None),
            "zone" => (Target::Zone, "zone", None),
            other => match self.variable(other) {
                Ok(id) => (Target::Variable(id), other, None),
                Err(why) => (Target::Nothing, "", Some(why.to_owned())),
            },
        };
        if let Target::Address(channels) = &target {
            self.channels.extend(channels);
        }
        self.targets.push(target);
        let variable = Some(variable.to_owned()).filter(|v| !v.is_empty());
        self.columns.push(UploadColumn { name: name.to_owned(), variable, unusable });
    }

    /// The attribute of a variable, or why there is none.
    fn variable(&mut self, name: &str) -> Result<AttributeId, &'static str> {
        if name.is_empty() {
            return Err("its name has no letters a to z: name it otherwise to use it");
        }
        if self.schema.by_name(name).is_some() {
            return Err("the name means something else: name the column otherwise to use it");
        }
        match self.schema.with(name, AttributeType::Text, Some(IndexKind::None)) {
            Ok(schema) => self.schema = schema,
            Err(_) => return Err("its name must begin with a letter and have 64 characters at most"),
        }
        Ok(self.schema.by_name(name).map_or(AttributeId::KEY, |a| a.id))
    }

    /// Channels of which a column holds addresses.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Variables beside the built-in attributes, in the order of their ids.
    pub(super) fn own_variables(&self) -> impl Iterator<Item = &str> {
        self.schema.attributes().iter().filter(|a| !a.id.is_built_in()).map(|a| a.name.as_str())
    }
}

/// What an address is called in templates.
fn address_variable(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "email",
        Channel::Sms => "phone",
        Channel::Whatsapp => "whatsapp",
        Channel::Push => "device_tokens",
        Channel::WebPush => "web_push",
        Channel::InApp => "in_app",
        // Refused before: a webhook addresses contacts by their keys.
        Channel::Webhook => "key",
    }
}

fn one_variable_each(header: &[String], names: &[String]) -> Result<(), UploadError> {
    for (at, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = names[..at].iter().position(|earlier| earlier == name) {
            let (first, second) = (header[first].clone(), header[at].clone());
            return Err(UploadError::SameVariable { first, second, variable: name.clone() });
        }
    }
    Ok(())
}

/// The schema that an upload's store has, from its columns alone.
pub(super) fn schema(columns: &[UploadColumn]) -> Schema {
    let mut schema = Schema::built_in();
    for variable in columns.iter().filter_map(|column| column.variable.as_deref()) {
        if schema.by_name(variable).is_none()
            && let Ok(more) = schema.with(variable, AttributeType::Text, Some(IndexKind::None))
        {
            schema = more;
        }
    }
    schema
}
