//! RUN: one command in a container whose changes become a layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use conex_dockerfile::{Ignore, Mount as RunMountKind, Security, Sharing};
use conex_exec::{
    Access, ContainerSpec, Content, Durability, HostPath, Mount, MountSource, Network, Overlay,
    OverlayFlavour, ResolvedUser, Rootfs, Stream, Streams, Upper,
};
use conex_layer::{Flavor, Ownership, Stack};
use conex_oci::Digest;
use conex_report::{Diagnostic, LogStream};
use conex_store::{CacheMount, CacheMountOptions, NewSnapshot};
use conex_sys::stat::FileKind;

use super::output;
use super::renew::{Ended, Use};
use super::trees::{Counting, Source, not_found};
use crate::context::Modes;
use crate::engine::{Built, Engine, Inputs, layer_error, store_error};
use crate::error::{Error, ErrorKind};
use crate::graph::{RunMount, RunOp, Tree, VertexIndex};
use crate::key::Components;
use crate::mask::Masker;

/// The name of the machine that commands see. Always the same, so that it cannot get into a layer.
const HOSTNAME: &str = "conex";

/// Largest `/etc/passwd` or `/etc/group` read from an image.
const DATABASE_SIZE_MAX: u64 = conex_exec::DATABASE_SIZE_MAX as u64;

/// What must live as long as the command runs.
#[derive(Default)]
struct Held {
    /// By ID.
    caches: Vec<(String, CacheMount)>,
    /// What they are used with.
    uses: Vec<Use>,
    /// Folders made for this run.
    scratch: Vec<NewSnapshot>,
    secrets: Vec<Vec<u8>>,
    ssh_variable: Option<String>,
    secret_env: Vec<String>,
}

impl Engine<'_> {
    /// Everything that decides what a command does.
    pub(crate) fn run_components(
        &self,
        op: &RunOp,
        inputs: &Inputs<'_>,
        components: &mut Components,
    ) -> Result<(), Error> {
        components.add("command", op.args.join("\0"));
        if let Some(script) = &op.script {
            components.add("script", &script.content);
        }
        for (name, value) in &op.env {
            components.add(format!("variable {name}"), value);
        }
        components.add("working directory", &op.cwd);
        components.add("user", &op.user);
        components.add("network", format!("{:?}", op.network));
        components.add("security", format!("{:?}", op.security));
        for mount in &op.mounts {
            let name = format!("mount {}", mount.target);
            let value = match &mount.mount {
                RunMountKind::Bind(bind) => {
                    let digest = self.bind_digest(mount, &bind.source, inputs)?;
                    format!("bind {} {digest}", bind.writable)
                }
                RunMountKind::Cache(cache) => {
                    format!("cache {} {}", cache.id, cache.read_only)
                }
                RunMountKind::Tmpfs(tmpfs) => {
                    format!("tmpfs {:?} {}", tmpfs.size, tmpfs.read_only)
                }
                // That there is a secret counts, what it says does not.
                RunMountKind::Secret(secret) => {
                    format!("secret {} {:?} {:?}", secret.id, secret.env, secret.mode)
                }
                RunMountKind::Ssh(ssh) => format!("ssh {}", ssh.id),
            };
            components.add(name, value);
        }
        Ok(())
    }

    fn bind_digest(
        &self,
        mount: &RunMount,
        path: &str,
        inputs: &Inputs<'_>,
    ) -> Result<Digest, Error> {
        let tree = mount.from.clone().unwrap_or(Tree::Context(None));
        let source = self.source(&tree, inputs)?;
        let (path, kind) = find(&source, path)?;
        let excludes = Ignore::default();
        let counting = Counting {
            modes: Modes::Count,
            owners: source.owners(),
            excludes: &excludes,
            prefix: Path::new(""),
        };
        self.digest(&source, &path, kind, &counting)
    }

    /// Who a user of an image is.
    pub(crate) fn resolve_user(&self, user: &str, stack: &Stack) -> Result<ResolvedUser, Error> {
        let read = |path: &str| stack.read(Path::new(path), DATABASE_SIZE_MAX).map_err(layer_error);
        let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
        conex_exec::resolve_user(user, passwd.as_deref(), group.as_deref()).map_err(exec_error)
    }

    pub(crate) fn do_run(
        &self,
        index: VertexIndex,
        op: &RunOp,
        parent: &Built,
        inputs: &Inputs<'_>,
    ) -> Result<Option<NewSnapshot>, Error> {
        let vertex = &self.plan.vertices[index];
        if let Err(why) = (self.options.can_run)(&vertex.platform) {
            let message = format!("cannot run commands for `{}` on this machine", vertex.platform);
            return Err(Error::unsupported(message).with_hint(why));
        }
        let new = self.begin()?;
        let mut held = Held::default();
        let spec = self.container(index, op, parent, inputs, &new, &mut held)?;
        let code = self.execute(index, &spec, &held);
        let ended = if matches!(code, Ok(0)) { Ended::Well } else { Ended::Badly };
        for usage in &held.uses {
            self.used(usage, ended)?;
        }
        let code = code?;
        if code != 0 {
            if self.options.cancel.is_canceled() {
                return Err(Error::canceled());
            }
            if let Some(on_failure) = self.options.on_failure {
                on_failure(&spec);
            }
            let error = failed_step(op, code, vertex.span, self.options.form.ownership);
            return Err(error);
        }
        Ok(Some(new))
    }

    /// Describes the container of a command.
    fn container(
        &self,
        index: VertexIndex,
        op: &RunOp,
        parent: &Built,
        inputs: &Inputs<'_>,
        new: &NewSnapshot,
        held: &mut Held,
    ) -> Result<ContainerSpec, Error> {
        let upper = Upper {
            dir: HostPath::from(new.path().to_owned()),
            work: HostPath::from(new.work_path().to_owned()),
            // The layer is digested right afterwards and thrown away after a power cut.
            durability: Durability::Volatile,
        };
        self.take_caches(op, inputs, held)?;
        let mut overlay = self.overlay(parent, Some(upper));
        let below = self.plan.vertices.get(index).and_then(|vertex| vertex.parent);
        self.renew("", (below, parent), &mut overlay.lower, held)?;
        let rootfs = Rootfs::Overlay(overlay);
        let mut spec = ContainerSpec::new(rootfs, op.args.clone());
        spec.user = self.resolve_user(&op.user, &self.stack(parent)?)?;
        spec.cwd.clone_from(&op.cwd);
        HOSTNAME.clone_into(&mut spec.hostname);
        spec.network = match op.network {
            conex_dockerfile::Network::None => Network::None,
            _ => Network::Host,
        };
        if op.security == Security::Insecure {
            if !self.options.allow_insecure {
                let message = "`RUN --security=insecure` is not allowed";
                return Err(Error::unsupported(message)
                    .with_hint("allow it with `--allow security.insecure`"));
            }
            spec.make_insecure();
        }
        spec.resources = self.options.resources.clone();
        let hosts = conex_exec::hosts_file(HOSTNAME, &self.options.extra_hosts);
        spec.mounts.push(Mount::file("/etc/hosts", hosts, Access::ReadWrite));
        let resolv = self.options.resolv_conf.clone();
        spec.mounts.push(Mount::file("/etc/resolv.conf", resolv, Access::ReadWrite));
        if let Some(script) = &op.script {
            let source = MountSource::File {
                content: Content(script.content.clone().into_bytes()),
                mode: 0o755,
                uid: spec.user.uid,
                gid: spec.user.gid,
            };
            let target = format!("/dev/pipes/{}", script.name);
            spec.mounts.push(Mount { target, source, access: Access::ReadOnly });
        }
        for mount in &op.mounts {
            let mounts = self.mount(mount, inputs, held)?;
            spec.mounts.extend(mounts);
        }
        spec.env = self.environment(op, held);
        Ok(spec)
    }

    /// Puts what is new to the cache mounts of a step on top of what it sees.
    fn renew(
        &self,
        view: &str,
        seen: (Option<VertexIndex>, &Built),
        lower: &mut Vec<HostPath>,
        held: &mut Held,
    ) -> Result<(), Error> {
        if held.caches.is_empty() {
            return Ok(());
        }
        let (usage, layer) = self.renewed(view, seen, &held.caches)?;
        held.uses.push(usage);
        if let Some(layer) = layer {
            lower.insert(0, HostPath::from(layer.path().to_owned()));
            held.scratch.push(layer);
        }
        Ok(())
    }

    fn environment(&self, op: &RunOp, held: &Held) -> Vec<String> {
        let pairs = op.env.iter().chain(&op.proxy_env);
        let mut env: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
        // Tools that write time stamps (Python, gcc, dpkg, gzip …) then write the same ones on
        // every machine.
        if !op.env.iter().any(|(name, _)| name == "SOURCE_DATE_EPOCH") {
            env.push(format!("SOURCE_DATE_EPOCH={}", self.options.epoch));
        }
        env.extend(held.ssh_variable.iter().map(|path| format!("SSH_AUTH_SOCK={path}")));
        env.extend(held.secret_env.iter().cloned());
        env
    }

    fn overlay(&self, built: &Built, upper: Option<Upper>) -> Overlay {
        Overlay {
            lower: built.layers().into_iter().map(HostPath::from).collect(),
            upper,
            flavour: match self.options.form.flavor {
                Flavor::Trusted => OverlayFlavour::Trusted,
                Flavor::User => OverlayFlavour::User,
            },
        }
    }

    fn mount(
        &self,
        mount: &RunMount,
        inputs: &Inputs<'_>,
        held: &mut Held,
    ) -> Result<Option<Mount>, Error> {
        let target = mount.target.clone();
        let tree = mount.from.as_ref();
        Ok(match &mount.mount {
            RunMountKind::Bind(bind) => {
                let access = if bind.writable { Access::ReadWrite } else { Access::ReadOnly };
                let tree = tree.unwrap_or(&Tree::Context(None));
                let source = self.bind((tree, &target), &bind.source, access, inputs, held)?;
                Some(Mount { target, source, access })
            }
            RunMountKind::Cache(cache) => Self::cache_mount(cache, target, held),
            RunMountKind::Tmpfs(tmpfs) => {
                let source = MountSource::Tmpfs { size: tmpfs.size, mode: 0o1777, uid: 0, gid: 0 };
                let access = if tmpfs.read_only { Access::ReadOnly } else { Access::ReadWrite };
                Some(Mount { target, source, access })
            }
            RunMountKind::Secret(secret) => {
                let Some(value) = self.options.secrets.get(&secret.id) else {
                    if secret.required {
                        let message = format!("the secret `{}` was not given", secret.id);
                        let hint = format!("`--secret id={},src=FILE` or `env=NAME`", secret.id);
                        return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
                    }
                    return Ok(None);
                };
                held.secrets.push(value.0.clone());
                if let Some(name) = &secret.env {
                    let value = String::from_utf8_lossy(&value.0);
                    held.secret_env.push(format!("{name}={value}"));
                }
                if target.is_empty() {
                    return Ok(None);
                }
                let content = Content(value.0.clone());
                let (mode, uid, gid) = (secret.mode, secret.uid, secret.gid);
                let source = MountSource::File { content, mode, uid, gid };
                Some(Mount { target, source, access: Access::ReadOnly })
            }
            RunMountKind::Ssh(ssh) => {
                let Some(socket) = self.options.ssh.get(&ssh.id) else {
                    if ssh.required {
                        let message = format!("the SSH agent `{}` was not given", ssh.id);
                        let hint = format!("`--ssh {}`", ssh.id);
                        return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint));
                    }
                    return Ok(None);
                };
                held.ssh_variable.get_or_insert_with(|| target.clone());
                Some(Mount::bind(HostPath::from(socket.clone()), target, Access::ReadWrite))
            }
        })
    }

    /// Files of a context or a stage under a path of the container.
    fn bind(
        &self,
        (tree, target): (&Tree, &str),
        path: &str,
        access: Access,
        inputs: &Inputs<'_>,
        held: &mut Held,
    ) -> Result<MountSource, Error> {
        let source = self.source(tree, inputs)?;
        let (path, _) = find(&source, path)?;
        let mut lower = match (&source, tree) {
            (Source::Context(context), _) => {
                let mut lower = vec![HostPath::from(context.path().to_owned())];
                // Whiteouts on top of the folder hide what the ignore file leaves out.
                if let Some(mask) = self.ignore_mask(context)? {
                    lower.insert(0, HostPath::from(mask.path().to_owned()));
                    held.scratch.push(mask);
                }
                lower
            }
            (Source::Stack(..), Tree::Vertex(vertex)) => {
                let built = inputs.get(*vertex);
                let mut lower = built.layers().into_iter().map(HostPath::from).collect();
                self.renew(target, (*vertex, &built), &mut lower, held)?;
                lower
            }
            (Source::Stack(..), Tree::Context(_)) => Vec::new(),
        };
        let upper = match access {
            Access::ReadOnly => None,
            // What the command writes goes here, and away with it.
            Access::ReadWrite => {
                let scratch = self.begin()?;
                let upper = Upper {
                    dir: HostPath::from(scratch.path().to_owned()),
                    work: HostPath::from(scratch.work_path().to_owned()),
                    durability: Durability::Volatile,
                };
                held.scratch.push(scratch);
                Some(upper)
            }
        };
        if lower.is_empty() {
            let scratch = self.begin()?;
            lower.push(HostPath::from(scratch.path().to_owned()));
            held.scratch.push(scratch);
        }
        let flavour = self.overlay(&Built::default(), None).flavour;
        let overlay = Overlay { lower, upper, flavour };
        Ok(MountSource::Overlay { overlay, path: HostPath::from(path) })
    }

    /// Takes all cache mounts of a command into use, in the order of their IDs: two commands that
    /// name the same ones in different orders would else wait for each other for ever.
    fn take_caches(&self, op: &RunOp, inputs: &Inputs<'_>, held: &mut Held) -> Result<(), Error> {
        let mut wanted: BTreeMap<&str, Vec<(&conex_dockerfile::CacheMount, Option<&Tree>)>> =
            BTreeMap::new();
        for mount in &op.mounts {
            if let RunMountKind::Cache(cache) = &mount.mount {
                wanted.entry(&cache.id).or_default().push((cache, mount.from.as_ref()));
            }
        }
        for (id, mounts) in wanted {
            let Some((first, tree)) = mounts.first() else { continue };
            let sharing = mounts.iter().map(|(cache, _)| cache.sharing);
            // Mounted twice by one command it is one cache, shared as the strictest says.
            let strictest = sharing.max_by_key(|sharing| match sharing {
                Sharing::Shared => 0,
                Sharing::Private => 1,
                Sharing::Locked => 2,
            });
            let cache = self.take_cache(first, strictest.unwrap_or_default())?;
            if cache.is_new()
                && let Some(tree) = tree
            {
                self.fill(cache.path(), tree, &first.source, inputs)?;
            }
            held.caches.push((id.to_owned(), cache));
        }
        Ok(())
    }

    fn take_cache(
        &self,
        cache: &conex_dockerfile::CacheMount,
        sharing: Sharing,
    ) -> Result<CacheMount, Error> {
        let owner = (cache.uid.unwrap_or(0), cache.gid.unwrap_or(0));
        let options = CacheMountOptions {
            sharing: match sharing {
                Sharing::Shared => conex_store::Sharing::Shared,
                Sharing::Private => conex_store::Sharing::Private,
                Sharing::Locked => conex_store::Sharing::Locked,
            },
            mode: cache.mode.unwrap_or(0o755),
            owner: (self.options.form.ownership == Ownership::Real).then_some(owner),
        };
        let keep_waiting = || !self.options.cancel.is_canceled();
        self.store().cache_mount(&cache.id, &options, &keep_waiting).map_err(store_error)
    }

    /// The mount of a cache that was taken into use.
    fn cache_mount(
        cache: &conex_dockerfile::CacheMount,
        target: String,
        held: &Held,
    ) -> Option<Mount> {
        let (_, taken) = held.caches.iter().find(|(id, _)| *id == cache.id)?;
        let access = if cache.read_only { Access::ReadOnly } else { Access::ReadWrite };
        Some(Mount::bind(HostPath::from(taken.path().to_owned()), target, access))
    }

    /// Runs the container to its end, showing what it prints. Returns its exit code.
    fn execute(&self, index: VertexIndex, spec: &ContainerSpec, held: &Held) -> Result<u8, Error> {
        let streams = Streams { stdin: Stream::Null, stdout: Stream::Pipe, stderr: Stream::Pipe };
        let mut running =
            conex_exec::spawn(spec, streams, &self.options.exec).map_err(exec_error)?;
        let _watch = self.options.cancel.watch(running.signaller());
        for note in running.notes() {
            self.tell(conex_report::Event::Note { text: note.clone() });
        }
        let pipes = [
            (running.stdout.take(), LogStream::Stdout),
            (running.stderr.take(), LogStream::Stderr),
        ];
        let masker = Masker::new(held.secrets.iter().cloned());
        let exit = std::thread::scope(|scope| {
            scope.spawn(|| {
                output::forward(pipes, &masker, |stream, data| self.log(index, stream, data));
            });
            running.wait()
        });
        let exit = exit.map_err(exec_error)?;
        if exit.out_of_memory {
            let text = b"the command was stopped because its memory limit was reached\n".to_vec();
            self.log(index, LogStream::Stderr, text);
        }
        Ok(exit.code())
    }
}

/// Finds the path of a bind mount.
fn find(source: &Source, path: &str) -> Result<(PathBuf, FileKind), Error> {
    let clean: PathBuf = Path::new(path)
        .components()
        .filter(|part| matches!(part, std::path::Component::Normal(_)))
        .collect();
    let found = source.listing().resolve(&clean);
    let found = found.map_err(|error| Error::io(format!("cannot look for `{path}`"), error))?;
    found.ok_or_else(|| not_found(source, path))
}

/// What may lie behind a failure where a user has no range of subordinate IDs.
const HINT_OF_ONE_ID: &str = "commands have one user ID here: if this one wanted to give a file to \
    another user, or to become one, give yourself a range of IDs in /etc/subuid and /etc/subgid \
    (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`) and install newuidmap";

fn failed_step(
    op: &RunOp,
    code: u8,
    span: Option<conex_report::Span>,
    ownership: Ownership,
) -> Error {
    let command = op.args.join(" ");
    let message = format!("process `{command}` did not complete successfully: exit code {code}");
    let hint = (ownership != Ownership::Real).then_some(HINT_OF_ONE_ID);
    let error = match span {
        Some(span) => {
            let diagnostic = Diagnostic::error(span, message.clone());
            Error::dockerfile(vec![match hint {
                Some(hint) => diagnostic.with_hint(hint),
                None => diagnostic,
            }])
        }
        None => Error::new(ErrorKind::Dockerfile, String::new()),
    };
    error.into_failed_step(message, code.into())
}

/// An error of the executor, kept whole.
pub(crate) fn exec_error(error: conex_exec::Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    let wrapped = Error::io("cannot run the command", error);
    match hint {
        Some(hint) => wrapped.with_hint(hint),
        None => wrapped,
    }
}
