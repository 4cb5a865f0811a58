//! Every rule on its own examples, the edits, and what ignores findings.

use std::collections::BTreeMap;

use conex_dockerfile::Ignore;
use conex_lint::{
    CheckOptions, Finding, Fixable, LabelKind, LintOptions, Linted, Safety, Scope, Set, Versions,
    fix, lint, rules,
};
use conex_oci::Platform;

/// What the examples of rules are checked with: a schema of labels, a list of registries, a
/// context.
pub(crate) fn with_options<T>(check: impl FnOnce(&mut LintOptions<'_>) -> T) -> T {
    let platform: Platform = "linux/amd64".parse().expect("it is a platform");
    let (ignore, _) = Ignore::parse(b"ignored\n*.log\n");
    let files: Vec<String> =
        [".git/HEAD", "package.json", "package-lock.json", "src/a"].map(str::to_owned).into();
    let base = |_: &str, _: &Platform| None;
    let build = CheckOptions {
        build_args: BTreeMap::new(),
        target: None,
        scope: Scope::All,
        ignore: Some(&ignore),
        build_platform: platform.clone(),
        target_platform: platform,
        base: &base,
    };
    let text = |name: &str| match name {
        "requirements.txt" => Some("flask\n".to_owned()),
        "requirements.lock" => Some("flask==3.1.2 --hash=sha256:00\n".to_owned()),
        _ => None,
    };
    let mut options = LintOptions {
        context_files: Some(&files),
        context_text: Some(&text),
        ..LintOptions::new(build)
    };
    check(&mut options)
}

pub(crate) fn linted(text: &str) -> Linted {
    with_options(|options| lint(text.as_bytes(), options))
}

/// The schema and registries that rules about them need.
fn for_rule(options: &mut LintOptions<'_>, code: &str) {
    let schema: &[(&str, LabelKind)] = match code {
        "DL3049" | "DL3051" => &[("maintainer", LabelKind::Text)],
        "DL3050" => &[("maintainer", LabelKind::Text)],
        "DL3052" => &[("source", LabelKind::Url)],
        "DL3053" => &[("created", LabelKind::Time)],
        "DL3054" => &[("licenses", LabelKind::Licence)],
        "DL3055" => &[("revision", LabelKind::GitHash)],
        "DL3056" => &[("version", LabelKind::Version)],
        "DL3058" => &[("contact", LabelKind::Email)],
        _ => &[],
    };
    options.label_schema = schema.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    options.strict_labels = code == "DL3050";
    if code == "DL3026" {
        options.trusted_registries = vec!["docker.io".to_owned()];
    }
}

fn names(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(Finding::name).collect()
}

#[test]
fn every_rule_finds_its_bad_example_and_passes_its_good_one() {
    let mut wrong = Vec::new();
    for rule in rules().filter(|rule| rule.set != Set::BuildKit) {
        with_options(|options| {
            for_rule(options, rule.codes.first().copied().unwrap_or(""));
            let experimental = format!("# check=experimental={}\n", rule.name);
            let run = |text: &str| lint(format!("{experimental}{text}").as_bytes(), options);
            let (bad, good) = (run(rule.bad), run(rule.good));
            if !names(&bad.findings).contains(&rule.name) {
                wrong.push(format!("{} misses its bad example: {:?}", rule.name, bad.findings));
            }
            if names(&good.findings).contains(&rule.name) {
                wrong.push(format!("{} finds its good example: {:?}", rule.name, good.findings));
            }
            let unread = |linted: &Linted| {
                linted.findings.iter().any(|one| one.name() == "SyntaxError")
                    || (linted.findings.iter().any(|one| one.name() == "ShellSyntax")
                        && rule.name != "ShellSyntax")
            };
            if unread(&bad) || unread(&good) {
                wrong.push(format!("{}: {:?} {:?}", rule.name, bad.findings, good.findings));
            }
            if rule.why.is_empty() || rule.description.is_empty() {
                wrong.push(format!("{} says too little", rule.name));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_and_codes_mean_one_rule() {
    let mut seen = std::collections::BTreeSet::new();
    for rule in rules() {
        for name in rule.codes.iter().chain([&rule.name]) {
            assert!(seen.insert(name.to_ascii_lowercase()), "{name} means two rules");
            assert_eq!(conex_lint::rule(name).map(|rule| rule.name), Some(rule.name));
        }
    }
    assert!(seen.len() > 150, "{}", seen.len());
}

#[test]
fn packages_are_pinned_to_what_an_image_has() {
    let mut versions = Versions::default();
    for (kind, name, version) in [
        ("dpkg", "git", "1:2.47.3-0+deb13u1"),
        ("dpkg", "curl", "8.14.1-2"),
        ("python", "Flask_Login", "0.6.3"),
        ("python", "uvicorn", "0.38.0"),
        ("npm", "express", "5.1.0"),
        ("npm", "semver", "6.0.0"),
        ("npm", "semver", "7.0.0"),
        ("apk", "git", "2.49.1-r0"),
        ("rpm", "git", "1:2.51.0-2.fc43"),
        ("gem", "rails", "8.1.0"),
    ] {
        versions.add(kind, name, version);
    }
    let versions: &Versions = Box::leak(versions.into());
    for (before, after) in [
        (
            "apt-get install -y git \\\n    \"curl\" nano",
            "apt-get install -y git=1:2.47.3-0+deb13u1 \\\n    \"curl\"=8.14.1-2 nano",
        ),
        ("apt-get install -y git=1 $MORE curl", "apt-get install -y git=1 $MORE curl=8.14.1-2"),
        (
            "pip install flask-login 'uvicorn[standard]'",
            "pip install flask-login==0.6.3 'uvicorn[standard]'==0.38.0",
        ),
        ("npm install -g express semver", "npm install -g express@5.1.0 semver"),
        ("apk add git", "apk add git=2.49.1-r0"),
        ("yum install -y git", "yum install -y git-2.51.0-2.fc43"),
        ("dnf install -y git", "dnf install -y git-2.51.0-2.fc43"),
        ("gem install rails", "gem install rails:8.1.0"),
        ("gem install sinatra", "gem install sinatra"),
    ] {
        with_options(|options| {
            options.versions = Some(versions);
            let is_pin = |finding: &Finding| finding.name().ends_with("PinVersions");
            let file = |step: &str| format!("FROM a:1\nRUN {step}\n");
            let fixed = fix(&file(before), options, Safety::Safe, &is_pin);
            assert_eq!(fixed.text, file(after));
            assert_eq!(fix(&fixed.text, options, Safety::Safe, &is_pin).text, fixed.text);
        });
    }
}

#[test]
fn a_rule_that_says_so_mends_its_bad_example() {
    let mut wrong = Vec::new();
    let mut versions = Versions::default();
    for kind in ["dpkg", "python", "npm", "apk", "gem", "rpm", "cargo"] {
        for name in ["git", "flask", "express", "rails", "ripgrep"] {
            versions.add(kind, name, "1:2.3-4");
        }
    }
    let versions: &Versions = Box::leak(versions.into());
    for rule in rules().filter(|rule| rule.fix != Fixable::No) {
        with_options(|options| {
            for_rule(options, rule.codes.first().copied().unwrap_or(""));
            options.versions = (rule.fix == Fixable::FromImage).then_some(versions);
            let safety = match rule.fix {
                Fixable::Safe | Fixable::FromImage => Safety::Safe,
                _ => Safety::Unsafe,
            };
            let only = |finding: &Finding| finding.name() == rule.name;
            let fixed = fix(rule.bad, options, safety, &only);
            let left = lint(fixed.text.as_bytes(), options);
            if fixed.count == 0 || names(&left.findings).contains(&rule.name) {
                wrong.push(format!("{}: {:?}", rule.name, fixed.text));
            }
            let again = fix(&fixed.text, options, safety, &only);
            if again.text != fixed.text {
                wrong.push(format!("{} twice: {:?} {:?}", rule.name, fixed.text, again.text));
            }
        });
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
