use super::{File, Format, write};
use crate::finding::{Edit, Finding, Fix, Level};
use conex_report::Span;

const TEXT: &str = "FROM a\nRUN b <c>\n";

fn findings() -> Vec<Finding> {
    vec![
        Finding {
            rule: crate::rule("DL3014"),
            code: "DL3014",
            level: Level::Warning,
            span: Span::new((2, 5), (2, 6)),
            line: 2,
            message: "`b` says \"<no>\" & 'maybe'".to_owned(),
            hint: Some("write: a, b".to_owned()),
            fix: Some(Fix::safe("add `-y`", vec![Edit::insert(12, " -y")])),
        },
        Finding {
            rule: None,
            code: "DL1000",
            level: Level::Error,
            span: Span::new((1, 1), (1, 7)),
            line: 1,
            message: "one\ntwo".to_owned(),
            hint: None,
            fix: None,
        },
    ]
}

fn written(format: Format) -> String {
    let findings = findings();
    let empty = File { name: "empty file", text: "", findings: &[] };
    write(format, &[File { name: "a/Dockerfile", text: TEXT, findings: &findings }, empty])
}

#[test]
fn lines_are_one_a_finding() {
    insta::assert_snapshot!(written(Format::Tty), @r#"
    a/Dockerfile:2 DL3014 warning: `b` says "<no>" & 'maybe'
    a/Dockerfile:1 DL1000 error: one two
    "#);
    insta::assert_snapshot!(written(Format::Gnu), @r#"
    conex:a/Dockerfile:2:5: DL3014 warning: `b` says "<no>" & 'maybe'
    conex:a/Dockerfile:1:1: DL1000 error: one two
    "#);
    insta::assert_snapshot!(written(Format::Github), @r#"
    ::warning file=a/Dockerfile,line=2,endLine=2,col=5,title=AptGetYes (DL3014)::`b` says "<no>" & 'maybe' (write: a, b)
    ::error file=a/Dockerfile,line=1,endLine=1,col=1,title=SyntaxError (DL1000)::one%0Atwo
    "#);
    insta::assert_snapshot!(written(Format::Codacy), @r#"
    {"filename":"a/Dockerfile","line":2,"message":"`b` says \"<no>\" & 'maybe'","patternId":"DL3014"}
    {"filename":"a/Dockerfile","line":1,"message":"one\ntwo","patternId":"DL1000"}
    "#);
}

#[test]
fn xml_is_escaped() {
    insta::assert_snapshot!(written(Format::Checkstyle), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <checkstyle version="4.3">
      <file name="a/Dockerfile">
        <error line="2" column="5" severity="warning" message="`b` says &quot;&lt;no&gt;&quot; &amp; &apos;maybe&apos;" source="DL3014"/>
        <error line="1" column="1" severity="error" message="one&#10;two" source="DL1000"/>
      </file>
      <file name="empty file">
      </file>
    </checkstyle>
    "#);
    insta::assert_snapshot!(written(Format::Junit), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites name="conex lint" tests="3" failures="2">
      <testsuite name="a/Dockerfile" tests="2" failures="2">
        <testcase name="DL3014 line 2" classname="a/Dockerfile">
          <failure type="warning" message="`b` says &quot;&lt;no&gt;&quot; &amp; &apos;maybe&apos;">write: a, b</failure>
        </testcase>
        <testcase name="DL1000 line 1" classname="a/Dockerfile">
          <failure type="error" message="one&#10;two"></failure>
        </testcase>
      </testsuite>
      <testsuite name="empty file" tests="1" failures="0">
        <testcase name="empty file" classname="conex.lint"/>
      </testsuite>
    </testsuites>
    "#);
}

#[test]
fn json_has_hadolints_fields_and_the_exact_place() {
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!({
            "file": "a/Dockerfile", "line": 2, "column": 5, "endLine": 2, "endColumn": 6,
            "code": "DL3014", "rule": "AptGetYes", "level": "warning",
            "message": "`b` says \"<no>\" & 'maybe'", "hint": "write: a, b", "fixable": true,
        })
    );
    let gitlab: serde_json::Value = serde_json::from_str(&written(Format::Gitlab)).unwrap();
    assert_eq!(gitlab[0]["fingerprint"].as_str().unwrap().len(), 40);
    assert_ne!(gitlab[0]["fingerprint"], gitlab[1]["fingerprint"]);
    let sonar: serde_json::Value = serde_json::from_str(&written(Format::Sonarqube)).unwrap();
    assert_eq!(sonar["issues"][0]["primaryLocation"]["textRange"]["startColumn"], 4);
    for line in written(Format::CodeClimate).lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["type"], "issue");
    }
}

#[test]
fn sarif_names_rules_places_and_edits() {
    let sarif: serde_json::Value = serde_json::from_str(&written(Format::Sarif)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"][0]["id"], "AptGetYes");
    let result = &run["results"][0];
    assert_eq!(
        (result["ruleId"].as_str(), result["ruleIndex"].as_u64()),
        (Some("AptGetYes"), Some(0))
    );
    let change = &result["fixes"][0]["artifactChanges"][0]["replacements"][0];
    assert_eq!(change["deletedRegion"]["startColumn"], 6);
    assert_eq!(change["insertedContent"]["text"], " -y");
    let location = &result["locations"][0]["physicalLocation"];
    assert_eq!(location["artifactLocation"]["uri"], "a/Dockerfile");
    assert!(run["results"][1].get("ruleIndex").is_none());
}
