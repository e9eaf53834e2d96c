//! Tests of scenarios as text: all that are built in, what is refused, and changes.

use super::*;

const TINY: &str = "name = \"tiny\"\nabout = \"a\"\nquestion = \"q\"\ndriver = \"email\"\ntakes = \"1 s\"\n\
                    bound_seconds = 5\n[parameters]\ncontacts = 10\n[bars]\nratio.min = 3.0\n";

fn changes(texts: &[&str]) -> Vec<Change> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn refusal(text: &str, set: &[&str]) -> String {
    format!("{:#}", Scenario::parse(text, &changes(set)).err().expect("a refusal"))
}

#[test]
fn every_built_in_scenario_is_whole_and_says_what_it_is() {
    let all = all().unwrap();
    assert_eq!(all.len(), BUILT_IN.len());
    let mut names: Vec<String> = Vec::new();
    for ((folder, _), scenario) in BUILT_IN.iter().zip(&all) {
        assert_eq!(*folder, scenario.name, "a scenario has the name of its folder");
        assert!(scenario.about.len() > 20 && scenario.question.len() > 60, "{folder} explains itself");
        assert!(!scenario.bars.is_empty(), "{folder} has a bar");
        names.extend([scenario.name.clone()].into_iter().chain(scenario.aliases.clone()));
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "no two have one name: {names:?}");
}

#[test]
fn every_folder_is_built_in() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(BUILT_IN.iter().any(|(known, _)| *known == name), "{name} is listed");
    }
}

#[test]
fn changes_reach_parameters_bars_and_steps() {
    let changed = Scenario::parse(TINY, &changes(&["contacts=1_000", "bars.ratio.min=2.5", "seed=7"])).unwrap();
    assert_eq!(changed.parameters["contacts"].as_integer(), Some(1_000), "a number as TOML has it");
    assert_eq!(changed.bars["ratio"].min, Some(2.5), "a path reaches what is no parameter");
    let ready = changed.driver.prepare(&changed.parameters).unwrap();
    assert_eq!(ready.parameters()["seed"], 7, "what the file does not say can be set");
    assert_eq!(literal("a b"), toml::Value::String("a b".to_owned()), "a text needs no quotes");
    assert_eq!(literal("[1, 2]").as_array().map(Vec::len), Some(2));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_runs() {
    let unknown = refusal(&TINY.replace("about =", "abuot ="), &[]);
    assert!(unknown.contains("abuot") && unknown.contains("line"), "key and line are named: {unknown}");
    assert!(refusal(TINY, &["contakts=5"]).contains("contakts"), "by --set, too");
    assert!(refusal(TINY, &["bars.speed.min=5"]).contains("speed"), "a bar on a figure that is never found");
    assert!(
        refusal(TINY, &["contacts.x=5"]).contains("contacts.x") || refusal(TINY, &["contacts.x=5"]).contains("unknown")
    );
    assert!(refusal(&TINY.replace("\"email\"", "\"mail\""), &[]).contains("no driver `mail`"));
    assert!(refusal(&TINY.replace("= 5\n", "= 0\n"), &[]).contains("bound_seconds"));
    assert!(refusal(&format!("{TINY}[[load]]\nname = \"x\"\ncontacts = 1\n"), &[]).contains("takes no [[load]]"));
}

#[test]
fn a_scenario_is_found_by_name_by_alias_and_by_path() {
    assert_eq!(Scenario::find("fairness", &[]).unwrap().name, "two-campaigns-fairness");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scenario.toml");
    std::fs::write(&file, TINY).unwrap();
    for path in [dir.path(), &file] {
        assert_eq!(Scenario::find(path.to_str().unwrap(), &[]).unwrap().name, "tiny", "{}", path.display());
    }
    let missing = format!("{:#}", Scenario::find("nothing", &[]).err().unwrap());
    assert!(missing.contains("nothing") && missing.contains("email"), "what there is is told: {missing}");
}
