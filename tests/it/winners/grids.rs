//! Grids: looked at before they are sent, and reported by row and column.

use super::*;

#[test]
fn a_grid_is_looked_at_before_it_is_sent_and_reported_by_row_and_column() {
    let served = Served::start(INBOX);
    let mut csv = String::from("id,email,land,city,age\n");
    for i in 0..240 {
        let (land, city) = [("fr", "lille"), ("fr", "lyon"), ("de", "berlin"), ("it", "rome")][i % 4];
        csv.push_str(&format!("g{i},g{i}@x.test,{land},{city},{}\n", 20 + i % 30));
    }
    assert_eq!(served.import("key=id&subscribe=email:news&list=g", csv)["accepted"], 240);
    let spec = r#"
name = "grid"
kind = "multi_segment"
[audience]
list = "g"
[message]
channel = "email"
connector = "relay"
topic = "news"
from = "News <news@example.test>"
subject = "To {{ cell.name }}"
html = '<p>{% if cell.age == "young" %}hey{% else %}dear{% endif %}, <a href="https://shop.example.test/a">{{ cell.land }}</a></p>'
[[dimensions]]
name = "land"
others = true
[[dimensions.segments]]
name = "France"
segment = 'land = "fr"'
others = true
[[dimensions.segments.segments]]
name = "Lille"
segment = 'city = "lille"'
[[dimensions.segments]]
name = "big"
segment = 'city in ("lyon", "berlin")'
[[dimensions]]
name = "age"
others = true
[[dimensions.segments]]
name = "young"
segment = 'age < 30'
[[dimensions.segments]]
name = "ancient"
segment = 'age > 90'
[[cells]]
where = { land = "France / Lille", age = "others" }
nothing = true
[[cells]]
where = { land = "all" }
"#;
    let checked = served.post_text("/v1/campaigns/check", "application/toml", spec).expect(200);
    assert_eq!(checked["problems"], json!([]), "{checked}");
    let warnings = checked["warnings"].to_string();
    assert!(warnings.contains("overlap") && warnings.contains("60 contacts are in"), "Lyon is in two: {warnings}");
    assert!(warnings.contains("empty_cell") && warnings.contains("ancient"), "nobody is that old: {warnings}");
    let wrong = served.post_text("/v1/campaigns/check", "application/toml", spec.replace("cell.name", "cell.nmae"));
    wrong.expect(200)["problems"]
        .as_array()
        .expect("problems")
        .iter()
        .find(|p| p["code"] == "unknown_name")
        .expect("it");
    served.post_text("/v1/campaigns", "application/toml", spec).expect(201);
    let audience = served.post("/v1/campaigns/grid/audience", &json!({})).expect(200);
    let cells = audience["cells"].as_array().expect("cells");
    let in_cells: u64 = cells.iter().filter_map(|cell| cell["contacts"].as_u64()).sum();
    let without = audience["without_cell"].as_u64().expect("a count");
    assert_eq!(in_cells + without, 240, "everybody is somewhere: {audience}");
    let overlap = json!([{"dimension": "land", "first": "France", "second": "big", "contacts": 60}]);
    assert_eq!(audience["overlaps"], overlap, "{audience}");
    served.act("grid", "start").expect(200);
    let report = served.await_state("grid", "finished");
    let grid = &report["grid"];
    assert_eq!(grid["dimensions"], json!(["age", "land"]), "{grid}");
    let cell = |cell: &Json| (cell["place"]["land"].clone(), cell["place"]["age"].clone(), cell["accepted"].clone());
    let sent: Vec<_> = grid["cells"].as_array().expect("cells").iter().map(cell).collect();
    let looked: Vec<_> = cells.iter().map(|cell| cell["contacts"].clone()).collect();
    assert_eq!(sent.iter().map(|(_, _, accepted)| accepted.clone()).collect::<Vec<_>>(), looked, "as it was foreseen");
    let total = |dimension: &str, value: &str| {
        let totals = grid["totals"].as_array().expect("totals");
        let found = totals.iter().find(|t| t["dimension"] == dimension && t["value"] == value);
        found.and_then(|total| total["accepted"].as_u64()).unwrap_or_else(|| panic!("{dimension} {value} in {grid}"))
    };
    assert_eq!(total("land", "France / others"), 60, "Lyon, young or not");
    assert_eq!(total("land", "big"), 60, "Berlin: Lyon went to France, which is written first");
    assert_eq!(total("age", "young") + total("age", "others"), in_cells, "columns add up");
    let mail = served.mails_to("g2@x.test").pop().expect("a mail");
    assert!(mail.contains("big") && mail.contains("hey"), "cell names are variables: {mail}");
}
