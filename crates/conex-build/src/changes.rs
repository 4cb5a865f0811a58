//! Dockerfile instructions applied to a config alone, as `import --change` has them.

use std::collections::BTreeMap;

use conex_dockerfile::Kind;
use conex_oci::ImageConfig;

use crate::error::{Error, ErrorKind};
use crate::graph::{BaseImage, BuildArgs};
use crate::plan::{Images, NoCache, PlanOptions, plan};

/// Instructions that change a config and nothing else.
const ALLOWED: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, \
                       USER, VOLUME, WORKDIR";

/// Applies instructions to a config. History stays as it is.
///
/// # Errors
/// One of them is not understood, or changes more than the config.
pub fn apply_changes(config: &mut ImageConfig, changes: &[String]) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let text = format!("FROM scratch\n{}\n", changes.join("\n"));
    let (dockerfile, findings) = conex_dockerfile::parse(text.as_bytes());
    let error = findings.iter().find(|finding| finding.severity == conex_report::Severity::Error);
    if let Some(finding) = error {
        let message = format!("cannot apply the changes: {}", finding.message);
        return Err(Error::new(ErrorKind::Dockerfile, message));
    }
    for stage in &dockerfile.stages {
        for instruction in &stage.instructions {
            if matches!(
                instruction.kind,
                Kind::From(_) | Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Arg(_)
            ) {
                let message = format!("`{}` cannot be applied to a config", instruction.text);
                return Err(Error::new(ErrorKind::Dockerfile, message)
                    .with_hint(format!("the instructions that can are {ALLOWED}")));
            }
        }
    }
    let platform = config.platform.clone();
    let made = plan(&PlanOptions {
        dockerfile: &dockerfile,
        target: None,
        build_args: &BuildArgs::new(),
        platforms: std::slice::from_ref(&platform),
        build_platform: &platform,
        contexts: &BTreeMap::new(),
        no_cache: &NoCache::Nothing,
        images: &NoImages,
        cache_namespace: "",
        network: conex_dockerfile::Network::Default,
    })?;
    if let Some(target) = made.targets.first() {
        config.config.clone_from(&target.config.config);
    }
    Ok(())
}

struct NoImages;

impl Images for NoImages {
    fn base(&self, name: &str, _: &conex_oci::Platform) -> Result<BaseImage, Error> {
        Err(Error::new(ErrorKind::NotFound, format!("the image `{name}` is not looked for here")))
    }
}
