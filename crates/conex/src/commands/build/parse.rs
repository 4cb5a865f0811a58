//! Reads the values of options.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use conex_exec::{ExtraHost, Runtime, Ulimit};
use conex_oci::Platform;

use crate::error::{CliError, Result};
use crate::settings::variable;

/// `--build-arg`: a name alone takes its value from the environment, and is nothing if it has none
/// there.
pub fn build_args(given: &[String]) -> Result<BTreeMap<String, String>> {
    let mut args = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => {
                return Err(CliError::usage(format!("`--build-arg {text}` has no name")));
            }
            Some((name, value)) => {
                args.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = variable(text) {
                    args.insert(text.clone(), value.to_string_lossy().into_owned());
                }
            }
        }
    }
    Ok(args)
}

/// `NAME=VALUE` options; a name alone has an empty value.
pub fn pairs(option: &str, given: &[String]) -> Result<BTreeMap<String, String>> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(CliError::usage(format!("`{option} {text}` has no name")));
        }
        Ok((name.to_owned(), value.to_owned()))
    };
    given.iter().map(pair).collect()
}

/// Annotations by what they are put on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    /// Of each manifest.
    pub manifest: BTreeMap<String, String>,
    /// Of the index, where there is one.
    pub index: BTreeMap<String, String>,
}

/// `--annotation [TYPE:]NAME=VALUE`, where the type is `manifest`, `index` or both with a comma.
pub fn annotations(given: &[String]) -> Result<Annotations> {
    let mut annotations = Annotations::default();
    for text in given {
        let name_end = text.find('=').unwrap_or(text.len());
        let (kinds, pair) = match text[..name_end].split_once(':') {
            Some((kinds, _)) => (kinds, &text[kinds.len() + 1..]),
            None => ("manifest", text.as_str()),
        };
        let pair = pairs("--annotation", &[pair.to_owned()])?;
        for kind in kinds.split(',') {
            match kind {
                "manifest" => annotations.manifest.extend(pair.clone()),
                "index" => annotations.index.extend(pair.clone()),
                other => {
                    let message = format!("`--annotation {text}`: `{other}` is not offered");
                    return Err(CliError::usage(message)
                        .with_hint("annotations are put on the `manifest` or the `index`"));
                }
            }
        }
    }
    Ok(annotations)
}

/// `--platform`: each once, that of this machine if none is named.
pub fn platforms(given: &[String], host: &Platform) -> Result<Vec<Platform>> {
    if given.is_empty() {
        return Ok(vec![host.clone()]);
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for text in given {
        let platform = match text.as_str() {
            "local" => host.clone(),
            text => text.parse()?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// A number of bytes with an optional unit (`512m`, `1.5g`), as Docker takes it: base 1024.
pub fn bytes(text: &str) -> Result<u64> {
    let wrong = || {
        CliError::usage(format!("`{text}` is no number of bytes"))
            .with_hint("write it like `512m` or `2g`")
    };
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let factor: u64 = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return Err(wrong()),
    };
    let bytes = number * factor as f64;
    if !(0.0..=9e18).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes as u64)
}

/// `--cpus`: thousand-millionths of a processor.
pub fn cpus(text: &str) -> Result<u64> {
    let wrong = || CliError::usage(format!("`{text}` is no number of processors"));
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.001..=1e6).contains(&number) {
        return Err(wrong());
    }
    Ok((number * 1e9).round() as u64)
}

/// `--ulimit NAME=SOFT[:HARD]`; `-1` and `unlimited` are no limit.
pub fn ulimits(given: &[String]) -> Result<Vec<Ulimit>> {
    let ulimit = |text: &String| {
        let wrong = || {
            CliError::usage(format!("`--ulimit {text}` is not understood"))
                .with_hint("write it like `nofile=1024:2048`")
        };
        let value = |text: &str| match text {
            "-1" | "unlimited" => Ok(None),
            text => text.parse().map(Some).map_err(|_| wrong()),
        };
        let (name, values) = text.split_once('=').ok_or_else(wrong)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        Ok(Ulimit { name: name.to_owned(), soft: value(soft)?, hard: value(hard)? })
    };
    given.iter().map(ulimit).collect()
}

/// `--add-host`.
pub fn extra_hosts(given: &[String]) -> Result<Vec<ExtraHost>> {
    // Containers share the host's network, so the host is reached as itself.
    let gateway = IpAddr::V4(Ipv4Addr::LOCALHOST);
    given.iter().map(|text| Ok(ExtraHost::parse(text, gateway)?)).collect()
}

/// `--runtime`: an installed OCI runtime by name or path.
pub fn runtime(name: Option<&str>) -> Result<Runtime> {
    match name {
        None | Some("conex") => Ok(Runtime::Own),
        Some(name) => match crate::session::find_program(name) {
            Some(path) => Ok(Runtime::Oci(crate::settings::absolute(&path))),
            None => Err(CliError::new(format!("the runtime `{name}` is not installed"))
                .with_hint("without `--runtime`, conex runs containers itself")),
        },
    }
}

/// Whether `--allow` names an entitlement.
pub fn allows(given: &[String], entitlement: &str) -> Result<bool> {
    const KNOWN: [&str; 2] = ["security.insecure", "network.host"];
    for text in given {
        if !KNOWN.contains(&text.as_str()) {
            let error = CliError::usage(format!("`--allow {text}` is not known"));
            return Err(match conex_report::did_you_mean(text, KNOWN) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint(format!("it is one of `{}`", KNOWN.join("`, `"))),
            });
        }
    }
    Ok(given.iter().any(|text| text == entitlement))
}

/// A value of `key=value` parts separated by commas (`type=oci,dest=a.tar`), as a map; a part
/// without `=` is an error that names it.
pub fn fields(option: &str, text: &str, known: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| CliError::usage(format!("`{option} {text}`: `{part}` has no value")))?;
        let key = key.trim().to_ascii_lowercase();
        if !known.contains(&key.as_str()) {
            let error = CliError::usage(format!("`{option} {text}`: `{key}` is not known"));
            return Err(match conex_report::did_you_mean(&key, known.iter().copied()) {
                Some(near) => error.with_hint(format!("did you mean `{near}`?")),
                None => error.with_hint(format!("known are `{}`", known.join("`, `"))),
            });
        }
        fields.insert(key, value.to_owned());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_does() {
        for (text, wanted) in
            [("512", 512), ("1k", 1024), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("10 mb", 10 << 20)]
        {
            assert_eq!(bytes(text).unwrap(), wanted, "{text}");
        }
        for wrong in ["", "m", "-1", "1x", "1e40g"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(cpus("1.5").unwrap(), 1_500_000_000);
        assert!(cpus("0").is_err());
    }

    #[test]
    fn annotations_go_where_they_are_asked_to() {
        let given = ["a=1", "index:b=2", "manifest,index:c=x:y=z"].map(str::to_owned);
        let found = annotations(&given).unwrap();
        assert_eq!(found.manifest.len(), 2);
        assert_eq!(found.index["c"], "x:y=z");
        assert!(annotations(&["index-descriptor:a=1".to_owned()]).is_err());
    }

    #[test]
    fn fields_name_what_is_wrong() {
        let known = ["type", "dest"];
        let fields = |text| fields("--output", text, &known);
        assert_eq!(fields("type=oci,dest=a").unwrap().len(), 2);
        assert_eq!(fields("typ=oci").unwrap_err().hint.unwrap(), "did you mean `type`?");
        assert!(fields("type").is_err());
    }
}
