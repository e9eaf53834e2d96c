use super::sample::sample;
use super::*;
use crate::contacts::AttributeSets;
use crate::ids::AttributeId;

const SPACE: RowSpace = RowSpace(7);
const SALT: [u8; 32] = [3; 32];

struct Taken {
    root: tempfile::TempDir,
    result: Result<(Store, UploadSummary), UploadError>,
}

impl Taken {
    fn summary(&self) -> &UploadSummary {
        &self.result.as_ref().expect("taken in").1
    }

    fn store(&self) -> &Store {
        &self.result.as_ref().expect("taken in").0
    }

    fn reason(&self) -> &'static str {
        let error = self.result.as_ref().map(|_| ()).expect_err("refused");
        assert!(error.is_of_the_file(), "{error}");
        error.reason()
    }

    fn text(&self, row: u32, variable: &str) -> Option<String> {
        let id = self.store().schema().by_name(variable).expect("a variable").id;
        let reader = self.store().reader().expect("reads");
        reader.record(ContactRow(row)).expect("reads").and_then(|record| record.text(id)).map(str::to_owned)
    }

    fn invalid(&self) -> String {
        std::fs::read_to_string(self.root.path().join("rows").join(INVALID_FILE)).expect("the file of invalid rows")
    }
}

fn take(bytes: impl AsRef<[u8]>, channel: Channel) -> Taken {
    let root = tempfile::tempdir().expect("a folder");
    let [file, folder, hashes] = ["file.csv", "rows", "hashes"].map(|name| root.path().join(name));
    std::fs::write(&file, bytes).expect("a file");
    std::fs::create_dir(&hashes).expect("a folder");
    let stop = AtomicBool::new(false);
    let upload =
        Upload { file: &file, channel, space: SPACE, salt: SALT, folder: &folder, hashes: &hashes, stop: &stop };
    let result = take_in(&upload);
    Taken { root, result }
}

fn email(text: &str) -> Taken {
    take(text, Channel::Email)
}

#[test]
fn rows_keep_their_order_their_line_and_their_columns_as_text() {
    let taken =
        email("Email,First Name,amount\r\nann@x.test,Ann,1.50\r\n\r\nbob@y.test,\"Bob, \"\"the\"\" second\",\r\n");
    let summary = taken.summary();
    assert_eq!((summary.total, summary.valid, summary.invalid, summary.delimiter), (2, 2, 0, ','), "{summary:?}");
    assert_eq!(taken.text(0, "first_name").as_deref(), Some("Ann"));
    assert_eq!(taken.text(0, "amount").as_deref(), Some("1.50"), "text, and no number");
    assert_eq!(taken.text(1, "first_name").as_deref(), Some("Bob, \"the\" second"), "quotes");
    assert_eq!(taken.text(1, "amount"), None, "an empty cell is no value");
    assert_eq!(taken.text(1, "key").as_deref(), Some("4"), "the key is the line");
    let reader = taken.store().reader().expect("reads");
    assert_eq!(reader.row_of_key("2").expect("reads"), Some(ContactRow(0)), "and found by it");
    assert_eq!(
        *reader.value(AttributeId::EMAIL_DOMAIN, "y.test").expect("reads"),
        [1].into_iter().collect(),
        "domains"
    );
    assert_eq!(
        reader.schema().attributes(),
        summary.schema().attributes(),
        "the schema follows from the columns alone"
    );
    assert!(taken.store().verify().expect("verifies").wrong.is_empty(), "the store is sound");
}

#[test]
fn a_file_without_header_address_or_rows_is_refused_with_a_reason() {
    for (text, reason) in [
        ("", "empty"),
        ("\r\n\r\n", "empty"),
        ("email,name\n", "no_rows"),
        ("ann@x.test,Ann\nbob@x.test,Bob\n", "no_address_column"),
        ("mail,name\nann@x.test,Ann\n", "no_address_column"),
        ("email\tname\nann@x.test\tAnn\n", "bad_delimiter"),
        ("email,\"name\nann@x.test,Ann\n", "bad_header"),
        ("em\0ail,name\nann@x.test,Ann\n", "bad_header"),
        ("email,Name,name\na@x.test,A,B\n", "same_variable"),
        ("id,email\na@x.test,a@x.test\n", "two_address_columns"),
    ] {
        assert_eq!(email(text).reason(), reason, "{text:?}");
    }
    assert_eq!(take("phone,id\n+33612345678,1\n", Channel::Sms).reason(), "two_address_columns", "of the channel");
    assert_eq!(take("id\nx\n", Channel::Webhook).reason(), "bad_channel", "webhooks have keys");
    let error = email("nom;prénom\nx;y\n").result.expect_err("refused").to_string();
    assert!(error.contains("\"nom\"") && error.contains("phone"), "it names what is there and what is wanted: {error}");
}

#[test]
fn an_id_is_the_address_of_the_channel_and_a_phone_needs_its_country() {
    let taken = take("id;name\n0033 6 12 34 56 78;Ann\n06 12 34 56 78;Bob\n+33612345678;Ann again\n", Channel::Sms);
    let summary = taken.summary();
    assert_eq!((summary.valid, summary.invalid, summary.delimiter), (2, 1, ';'), "{summary:?}");
    assert_eq!(taken.text(0, "phone").as_deref(), Some("+33612345678"), "in one form");
    assert_eq!((summary.duplicates(Channel::Sms), summary.addresses[&Channel::Sms].distinct), (1, 1), "one address");
    assert_eq!(
        summary.invalid_by.0.keys().collect::<Vec<_>>(),
        ["id is not a phone number with country code: it has no country code"]
    );
    assert!(taken.invalid().lines().nth(1).is_some_and(|line| line.starts_with("3,id,")), "{}", taken.invalid());
    let whatsapp = take("phone\n+33612345678\n", Channel::Whatsapp);
    let channels: Vec<Channel> = whatsapp.summary().addresses.keys().copied().collect();
    assert_eq!(channels, [Channel::Sms, Channel::Whatsapp], "a number reaches by both");
}

#[test]
fn what_decides_makes_a_row_invalid_and_what_does_not_is_left_out() {
    let taken = email(
        "email,phone,language,name\n\
         a@x.test,+33612345678,fr,A\n\
         b@x.test,612345678,français,B\n\
         ,+33612345679,fr,C\n\
         not an address,+33612345670,fr,D\n\
         ,,fr,E\n\
         f@x.test,,fr\n",
    );
    let summary = taken.summary();
    assert_eq!((summary.total, summary.valid, summary.invalid), (6, 3, 3), "{summary:?}");
    assert_eq!(summary.left_out.0.values().sum::<u64>(), 2, "a phone and a language: {:?}", summary.left_out);
    assert_eq!((summary.addresses[&Channel::Email].rows, summary.addresses[&Channel::Sms].rows), (2, 2), "reach");
    let reasons: Vec<&str> = summary.invalid_by.0.keys().map(String::as_str).collect();
    assert_eq!(
        reasons,
        [
            "email is empty",
            "email is not an e-mail address: there is no @",
            "the row has 3 columns where the header has 4"
        ]
    );
    let lines: Vec<String> =
        taken.invalid().lines().filter_map(|l| l.split_once(',')).map(|l| l.0.to_owned()).collect();
    assert_eq!(
        lines.iter().filter(|l| l.parse::<u64>().is_ok()).collect::<Vec<_>>(),
        ["5", "6", "7"],
        "each with its line"
    );
    let phones_only = email("phone\n612345678\n+33612345678\n");
    assert_eq!((phones_only.summary().valid, phones_only.summary().invalid), (1, 1), "the only address decides");
}

#[test]
fn names_that_mean_something_else_are_said_and_not_used() {
    let taken = email("email,created,2024,имя,zone,x\na@x.test,yesterday,1,я,Europe/Paris,y\n");
    let used: Vec<Option<&str>> = taken.summary().columns.iter().map(|c| c.variable.as_deref()).collect();
    assert_eq!(used, [Some("email"), None, None, None, Some("zone"), Some("x")]);
    assert!(taken.summary().columns.iter().all(|c| c.variable.is_some() != c.unusable.is_some()), "each says why");
    assert_eq!(taken.text(0, "zone").as_deref(), Some("Europe/Paris"), "a zone is one");
}

#[test]
fn any_encoding_reads_and_quotes_that_stay_open_cost_their_line() {
    let text = "email;ville\r\nann@x.test;Besançon\r\n";
    let utf16: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    for (bytes, encoding) in [(text.as_bytes().to_vec(), "UTF-8"), (utf16, "UTF-16LE"), (latin, "Latin-1")] {
        let taken = take(bytes, Channel::Email);
        assert_eq!(taken.summary().encoding, encoding);
        assert_eq!(taken.text(0, "ville").as_deref(), Some("Besançon"), "{encoding}");
    }
    let taken = email("email,name\na@x.test,\"A\nb@x.test,B\nc@x.test,C\n");
    assert_eq!((taken.summary().valid, taken.summary().invalid), (2, 1), "{:?}", taken.summary().invalid_by);
}

#[test]
fn one_address_in_any_spelling_is_one_and_hashes_outlive_the_rows() {
    let taken = email("email\nAnn@X.test\nann@x.TEST\nbob@x.test\n");
    assert_eq!(taken.summary().duplicates(Channel::Email), 1, "case tells nobody apart");
    let folder = taken.root.path().join("hashes");
    let hash = taken.store().address_hash(Channel::Email, "bob@x.test");
    let file = HashFile::open(&folder, SPACE, Channel::Email).expect("a file of hashes");
    assert_eq!(file.get(ContactRow(2)).expect("reads"), Some(hash), "by row");
    assert_eq!(file.get(ContactRow(3)).expect("reads"), None, "beyond the last");
    let mut rows = Vec::new();
    file.each(&mut |row, _| rows.push(row)).expect("reads");
    assert_eq!(rows, [0, 1, 2], "all of them");
    assert_eq!(hashes::space_of("7-email.hash"), Some(SPACE), "the name says whose");
    hashes::remove(&folder, SPACE).expect("removed");
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0, "and they can go");
}

#[test]
fn every_sample_is_taken_in_without_a_complaint() {
    for channel in Channel::ALL {
        let Some(text) = sample(channel) else { continue };
        let taken = take(text, channel);
        let summary = taken.summary();
        assert_eq!((summary.valid, summary.invalid, summary.duplicates(channel)), (2, 0, 0), "{channel}");
        assert!(summary.left_out.0.is_empty() && summary.columns.iter().all(|c| c.variable.is_some()), "{channel}");
    }
}

#[test]
fn an_upload_that_is_told_to_stop_does() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("file.csv");
    std::fs::write(&file, "email\na@x.test\n").expect("a file");
    let (folder, stop) = (root.path().join("rows"), AtomicBool::new(true));
    let (channel, hashes) = (Channel::Email, root.path());
    let upload = Upload { file: &file, channel, space: SPACE, salt: SALT, folder: &folder, hashes, stop: &stop };
    assert!(matches!(take_in(&upload), Err(UploadError::Stopped)), "between two rows");
}
