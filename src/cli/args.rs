//! The command line as clap reads it, with its help texts. Owns no state.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::EXIT_CODES;
use super::audiences::Audience;
use super::demo::Demo;
use super::flow::{ChooseArgs, DryRunArgs};
use super::history::{Message, ResendArgs};
use super::local::{ConfigCommand, ExampleBaseArgs, LogAddress, Metrics};
use super::log::LogFormat;
use super::report::ReportArgs;
use super::schedules::{CalendarArgs, When};
use super::winner::Winner;

const FIRST_STEPS: &str = "First steps:
  estafette demo                                        watch a campaign from file to inbox
  estafette serve --data data --config estafette.toml   start a server; it prints its admin key once
  export ESTAFETTE_KEY=est_…                            then, in another terminal:
  estafette import people.csv --key id --subscribe email:news
  estafette segment preview 'country = \"FR\" and age >= 18'
  estafette campaign create spring.toml
  estafette campaign start spring --watch
  estafette campaign contacts spring --set unknown";

/// A campaign send engine that mails nobody twice, and can prove it.
#[derive(Debug, Parser)]
#[command(name = "estafette", version, after_help = FIRST_STEPS, after_long_help = long_help(), max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

fn long_help() -> String {
    format!("{FIRST_STEPS}\n\n{EXIT_CODES}")
}

#[derive(Clone, Debug, Args)]
pub struct Connection {
    /// Address of the server's API.
    #[arg(long, global = true, env = "ESTAFETTE_URL", default_value = "http://127.0.0.1:8025", value_name = "URL")]
    pub url: String,
    /// Key of the API.
    #[arg(long, global = true, env = "ESTAFETTE_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server on a data directory.
    Serve(Serve),
    /// Watch an example campaign go from a file of contacts to an embedded inbox.
    Demo(Demo),
    /// Verify a data directory that no server has open, or a backup.
    Check(Check),
    /// Whether the server is ready: journal, disk, connectors, with reasons. Exit code 6 if it is not.
    Health(super::health::Health),
    /// Copy the data directory, consistently, while the server runs or while none does.
    Backup(super::backup::Backup),
    /// Make a data directory from a backup.
    Restore(super::backup::Restore),
    /// Import contacts from a CSV file, or look at imports.
    Import(Import),
    /// Contacts: show, change, erase, export.
    #[command(subcommand)]
    Contact(Contact),
    /// Attributes of contacts.
    #[command(subcommand)]
    Attribute(Attribute),
    /// Static sets of contacts.
    #[command(subcommand)]
    List(List),
    /// Dynamic sets of contacts, defined by an expression.
    #[command(subcommand)]
    Segment(Segment),
    /// Addresses and contacts that are never sent to.
    #[command(subcommand)]
    Suppression(Suppression),
    /// CSV files that one campaign is sent to and that never become contacts.
    #[command(subcommand)]
    Audience(Audience),
    /// Campaigns: create, check, start, stop, and everything between.
    #[command(subcommand)]
    Campaign(Campaign),
    /// What is planned over all campaigns, and what became of it.
    Calendar(CalendarArgs),
    /// What comes back from outside: deliveries, bounces, complaints, conversions, events of your own.
    #[command(subcommand)]
    Events(super::events::Events),
    /// Read one bounce (RFC 3464) or complaint (RFC 5965) from standard input, as an MTA pipes it, and send it to the server.
    Inbound(super::inbound::InboundArgs),
    /// Saved messages, which campaigns refer to by name.
    #[command(subcommand)]
    Message(Message),
    /// The report of a campaign's latest run.
    Report(ReportArgs),
    /// Calculators for split tests: what counts prove, how many contacts a test needs. They need no server.
    #[command(subcommand)]
    Winner(Winner),
    /// Accounts at providers.
    #[command(subcommand)]
    Connector(Connector),
    /// Configuration files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// How addresses stand in the logs of a data directory, which never have them in clear.
    LogAddress(LogAddress),
    /// The catalogue of metrics; with --scrape the figures of a running server.
    Metrics(Metrics),
    /// Write the example base of the demo as CSV.
    ExampleBase(ExampleBaseArgs),
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Args)]
#[command(
    after_help = "With ESTAFETTE_ADMIN_KEY set, that key is used and stored hashed; otherwise the first start makes one and prints it once.\n\
    With port 0 the address in force is written to DIR/api.addr and DIR/public.addr."
)]
pub struct Serve {
    /// Data directory; made if there is none.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Configuration file; without it the embedded inbox is the only connector.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The directory was restored from a backup or copied: hold every running campaign for review.
    #[arg(long)]
    pub restored: bool,
    /// How the log is written to standard error; ESTAFETTE_LOG says what is in it, as info or debug. Addresses are hashed.
    #[arg(long, value_enum, default_value = "text", env = "ESTAFETTE_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// The same as --log-format json.
    #[arg(long, hide = true)]
    pub log_json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Read in this very process, which a damaged page may end
    #[arg(long, hide = true)]
    pub here: bool,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  estafette import people.csv --key id --subscribe email:news\n  \
        estafette import people.csv --key id --dry-run            see how the file is understood\n  \
        estafette import people.csv --key Nr --mapping Vorname:first_name,intern:\n  \
        estafette import rejected 3 > rejected.csv"
)]
pub struct Import {
    #[command(subcommand)]
    pub command: Option<ImportCommand>,
    #[command(flatten)]
    pub file: Option<ImportFile>,
}

#[derive(Debug, Args)]
pub struct ImportFile {
    /// CSV file; its first line is the header.
    pub file: PathBuf,
    /// Column that holds the contact's key.
    #[arg(long, value_name = "COLUMN")]
    pub key: String,
    /// List that the rows join.
    #[arg(long)]
    pub list: Option<String>,
    /// Consent that every row gives, as email:news; without it an import gives nobody consent.
    #[arg(long, value_name = "CHANNEL:TOPIC", value_delimiter = ',')]
    pub subscribe: Vec<String>,
    /// Subscribe also those who had unsubscribed.
    #[arg(long)]
    pub resubscribe: bool,
    /// Read and report, write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Columns to attributes; an empty attribute leaves the column out.
    #[arg(long, value_name = "COLUMN:ATTRIBUTE,…")]
    pub mapping: Option<String>,
    /// Columns to types (text, number, boolean, date_time, list).
    #[arg(long, value_name = "COLUMN:TYPE,…")]
    pub types: Option<String>,
    /// ',', ';' or 'tab'; detected by default.
    #[arg(long)]
    pub delimiter: Option<String>,
    /// utf-8, utf-16le, utf-16be, latin-1; detected by default.
    #[arg(long)]
    pub encoding: Option<String>,
    /// Which row of a key that occurs twice wins: newest (default) or oldest.
    #[arg(long)]
    pub duplicates: Option<String>,
    /// Country (ISO 3166) of phone numbers without a country code.
    #[arg(long, value_name = "CC")]
    pub default_country: Option<String>,
    /// Return when the upload is safe, and do not wait for the import.
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// All imports.
    #[command(alias = "ls")]
    List,
    /// One import.
    Show { id: u32 },
    /// The rejected rows as CSV, on standard output.
    Rejected { id: u32 },
}

#[derive(Debug, Subcommand)]
pub enum Contact {
    /// One contact.
    Show { key: String },
    /// Create or replace a contact from JSON, as '{"email": "a@example.test", "attributes": {"age": 30}}'.
    Put {
        key: String,
        #[arg(value_name = "JSON")]
        body: String,
    },
    /// Change the named fields of a contact; null removes one.
    #[command(visible_alias = "set")]
    Patch {
        key: String,
        #[arg(value_name = "JSON")]
        body: String,
    },
    /// Erase a contact; a salted suppression entry stays.
    Erase { key: String },
    /// Everything that is held about a contact, as JSON.
    Export { key: String },
}

#[derive(Debug, Subcommand)]
pub enum Attribute {
    #[command(alias = "ls")]
    List,
    /// Add an attribute to the schema.
    Add {
        name: String,
        /// text, number, boolean, date_time, list.
        #[arg(long = "type", default_value = "text")]
        kind: String,
        /// values, bit_sliced or none.
        #[arg(long)]
        index: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum List {
    /// All lists.
    #[command(name = "list", alias = "ls")]
    All,
    Show {
        name: String,
    },
    /// Make a list, empty or from a segment as it is now.
    Create {
        name: String,
        #[arg(long)]
        segment: Option<String>,
    },
    Delete {
        name: String,
    },
    /// Add contacts by key.
    Add {
        name: String,
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Remove contacts by key.
    Remove {
        name: String,
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Keys of the contacts of a list.
    Contacts {
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Segment {
    #[command(alias = "ls")]
    List,
    Show {
        name: String,
    },
    /// Save an expression under a name.
    #[command(visible_alias = "save")]
    Create {
        name: String,
        expression: String,
    },
    Update {
        name: String,
        expression: String,
    },
    Delete {
        name: String,
    },
    /// Count an expression now.
    Preview {
        expression: String,
        /// Contacts to show.
        #[arg(long, default_value_t = 5)]
        sample: usize,
    },
}

#[derive(Debug, Subcommand)]
pub enum Suppression {
    #[command(alias = "ls")]
    List,
    /// Suppress a contact or an address.
    Add {
        #[arg(long, required_unless_present = "address")]
        contact: Option<String>,
        #[arg(long, conflicts_with = "contact", requires = "channel")]
        address: Option<String>,
        /// Of a contact: all channels by default. Required with --address.
        #[arg(long)]
        channel: Option<String>,
        /// manual (default), hard_bounce, soft_bounces, complaint, unsubscribed, erased, imported.
        #[arg(long)]
        reason: Option<String>,
    },
    Remove {
        id: u64,
    },
    /// Add entries from a CSV file: contact, address, address_hash, channel, reason.
    Import {
        file: PathBuf,
    },
    /// All entries as CSV, on standard output; what `import` reads.
    Export,
}

#[derive(Debug, Subcommand)]
pub enum Campaign {
    #[command(alias = "ls")]
    List {
        /// Only those in this state.
        #[arg(long)]
        state: Option<String>,
    },
    Show {
        campaign: String,
    },
    /// Save a draft from a spec (TOML, or JSON by the file's name).
    Create {
        file: PathBuf,
    },
    /// Change a draft by a merge patch (TOML, or JSON by the file's name). Of a campaign that is under way, change its
    /// working copy, which is opened; publish puts it into force. Without a file, open it and show the steps, or the nodes,
    /// with their locks. While launches are still to come, the change is theirs, and no working copy is opened: unschedule
    /// first to edit the run.
    Edit {
        campaign: String,
        file: Option<PathBuf>,
    },
    #[command(flatten)]
    Sequence(super::sequences::SequenceCommand),
    /// Check a spec without saving it: lists everything that would stop a start. Exit code 6 if there is something.
    Check {
        file: PathBuf,
    },
    /// Who would be sent to now, and why others would not.
    Audience {
        campaign: String,
    },
    /// The message as one contact would get it.
    Preview {
        campaign: String,
        /// Key of the contact; by default the first one of the audience.
        #[arg(long)]
        contact: Option<String>,
        /// Print only this part.
        #[arg(long, value_parser = ["subject", "text", "html", "headers"])]
        part: Option<String>,
    },
    /// Send the message to seed addresses, outside the ledger.
    TestSend {
        campaign: String,
        #[arg(required = true)]
        to: Vec<String>,
        #[arg(long)]
        contact: Option<String>,
    },
    /// Start a campaign; one with a [schedule] begins at its time, some minutes from now at the earliest.
    Start {
        campaign: String,
        /// Show the progress until the run has ended.
        #[arg(long)]
        watch: bool,
    },
    /// Change when a campaign starts; what is scheduled is published anew, some minutes from now at the earliest.
    Schedule {
        campaign: String,
        #[command(flatten)]
        when: When,
    },
    /// Take the schedule back: nothing more is launched. Never launched, the campaign is a draft again.
    Unschedule {
        campaign: String,
    },
    /// Claim nothing more, and launch nothing. What falls due meanwhile is launched when resumed, or skipped as too late.
    Pause {
        campaign: String,
    },
    Resume {
        campaign: String,
    },
    /// End the run for good; prints the exact count of what was sent.
    Stop {
        campaign: String,
    },
    /// Put away a draft, or what has ended: it is read, and changes no more. What it named is free.
    Archive {
        campaign: String,
    },
    /// Show the progress of the latest run until it has ended.
    Watch {
        campaign: String,
    },
    /// The report of the latest run.
    Report(ReportArgs),
    /// What happened when: accepted, opened, clicked in each part of the run's time.
    Timeline(super::figures::TimelineArgs),
    /// Two or more deliveries side by side: rates, and how each differs from the first.
    Compare(super::figures::CompareArgs),
    /// The flow of a campaign; once it has run, with the contacts at each node.
    Graph {
        campaign: String,
        #[arg(long, default_value = "text", value_parser = ["text", "mermaid", "json"])]
        format: String,
    },
    /// How many contacts would be at which node at what time; sends nothing and changes nothing.
    DryRun(DryRunArgs),
    /// Decide what the rest of an A/B test gets. Final.
    ChooseWinner(ChooseArgs),
    /// Send to a set of a finished or stopped run again, as a campaign that is linked to it.
    Resend(ResendArgs),
    Runs {
        campaign: String,
    },
    /// Contacts of a set, as CSV (default), NDJSON (--json), on standard output.
    Contacts {
        campaign: String,
        /// A set of the ledger, opened, clicked, not_opened, not_clicked, unsubscribed, delivered, bounced, complained, converted; rejected:CLASS and the like.
        #[arg(long)]
        set: String,
        #[arg(long)]
        run: Option<u32>,
    },
    /// Settle unknown contacts, as accepted, or as pending (they are sent again).
    Settle {
        campaign: String,
        #[arg(long = "as", value_parser = ["accepted", "pending"])]
        settle_as: String,
        /// Keys of contacts.
        #[arg(required_unless_present = "all")]
        contacts: Vec<String>,
        #[arg(long, conflicts_with = "contacts")]
        all: bool,
        #[arg(long)]
        run: Option<u32>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Connector {
    #[command(alias = "ls")]
    List,
    /// Connect, greet, authenticate; send nothing. Exit code 6 if that fails.
    Test { name: String },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_a_flag_of_every_command() {
        let contact = Cli::parse_from(["estafette", "contact", "put", "k", "{}", "--json"]);
        assert!(contact.connection.json, "whatever the command's own arguments are called");
        assert!(matches!(contact.command, Command::Contact(Contact::Put { body, .. }) if body == "{}"));
    }

    #[test]
    fn an_import_is_a_file_or_a_subcommand() {
        let file = Cli::parse_from(["estafette", "import", "people.csv", "--key", "id"]);
        let Command::Import(Import { command: None, file: Some(file) }) = file.command else { panic!("no file") };
        assert_eq!((file.file, file.key.as_str()), (PathBuf::from("people.csv"), "id"));
        let show = Cli::parse_from(["estafette", "import", "show", "3"]);
        assert!(matches!(show.command, Command::Import(Import { command: Some(ImportCommand::Show { id: 3 }), .. })));
        assert!(Cli::try_parse_from(["estafette", "import"]).is_err(), "an import needs a file");
    }
}
