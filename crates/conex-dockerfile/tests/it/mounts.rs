//! `RUN --mount`.

use conex_dockerfile::{Kind, Mount, Sharing, parse};
use insta::assert_snapshot;

#[test]
fn every_option_of_every_type() {
    let told: Vec<String> = [
        "target=/a",
        "type=bind,from=x,source=/s,dst=/d,rw",
        "type=bind,src=.,destination=d,readonly=false",
        "type=cache,target=/c/../d",
        "target=/c,type=CACHE,id=i,sharing=LOCKED,mode=0700,uid=1,gid=2,from=f,source=s,ro",
        "type=tmpfs,target=/t,size=64m",
        "type=secret,id=s",
        "type=secret,target=/run/x/y",
        "type=secret,id=a/b,env=E,required,uid=1,gid=2,mode=0440",
        "type=secret,id=s,env=",
        "type=ssh",
        "required=true,type=ssh,id=k,target=/s,mode=0666",
        "type=cache,\"target=/a,b\"",
    ]
    .iter()
    .map(|text| format!("{text}\n  {:?}", Mount::parse(text).expect(text)))
    .collect();
    assert_snapshot!(told.join("\n"), @r#"
    target=/a
      Bind(BindMount { target: "/a", source: "", from: None, writable: false })
    type=bind,from=x,source=/s,dst=/d,rw
      Bind(BindMount { target: "/d", source: "/s", from: Some("x"), writable: true })
    type=bind,src=.,destination=d,readonly=false
      Bind(BindMount { target: "d", source: ".", from: None, writable: true })
    type=cache,target=/c/../d
      Cache(CacheMount { id: "/d", target: "/c/../d", source: "", from: None, read_only: false, sharing: Shared, mode: None, uid: None, gid: None })
    target=/c,type=CACHE,id=i,sharing=LOCKED,mode=0700,uid=1,gid=2,from=f,source=s,ro
      Cache(CacheMount { id: "i", target: "/c", source: "s", from: Some("f"), read_only: true, sharing: Locked, mode: Some(448), uid: Some(1), gid: Some(2) })
    type=tmpfs,target=/t,size=64m
      Tmpfs(TmpfsMount { target: "/t", size: Some(67108864), read_only: false })
    type=secret,id=s
      Secret(SecretMount { id: "s", target: Some("/run/secrets/s"), env: None, required: false, mode: 256, uid: 0, gid: 0 })
    type=secret,target=/run/x/y
      Secret(SecretMount { id: "y", target: Some("/run/x/y"), env: None, required: false, mode: 256, uid: 0, gid: 0 })
    type=secret,id=a/b,env=E,required,uid=1,gid=2,mode=0440
      Secret(SecretMount { id: "a/b", target: None, env: Some("E"), required: true, mode: 288, uid: 1, gid: 2 })
    type=secret,id=s,env=
      Secret(SecretMount { id: "s", target: None, env: Some("s"), required: false, mode: 256, uid: 0, gid: 0 })
    type=ssh
      Ssh(SshMount { id: "default", target: None, required: false, mode: 384, uid: 0, gid: 0 })
    required=true,type=ssh,id=k,target=/s,mode=0666
      Ssh(SshMount { id: "k", target: Some("/s"), required: true, mode: 438, uid: 0, gid: 0 })
    type=cache,"target=/a,b"
      Cache(CacheMount { id: "/a,b", target: "/a,b", source: "", from: None, read_only: false, sharing: Shared, mode: None, uid: None, gid: None })
    "#);
}

#[test]
fn what_means_nothing_is_an_error() {
    let told: Vec<String> = [
        "",
        "type=cahce,target=/x",
        "type=bind,target=/x,tagret=/y",
        "type=bind,target",
        "type=bind,target=/x,id=a",
        "type=bind,target=/x,mode=0700",
        "type=cache",
        "type=cache,target=/x,required",
        "type=cache,target=/x,sharing=some",
        "type=tmpfs,target=/x,size=much",
        "type=tmpfs,target=/x,from=y",
        "type=secret",
        "type=secret,id=a,source=b",
        "type=secret,id=a,from=b",
        "type=ssh,source=a",
        "type=cache,target=/x/..",
        "type=cache,target=/x,uid=-1",
        "type=cache,target=/x,mode=0x1",
        "type=cache,target=/x,ro=maybe",
        "type=cache,,target=/x",
        "type=cache,tar\"get=/x",
        "type=cache,\"target=/x",
    ]
    .iter()
    .map(|text| {
        let error = Mount::parse(text).expect_err(text);
        let hint = error.hint().map(|hint| format!(" | {hint}")).unwrap_or_default();
        format!("{text:?}: {error}{hint}")
    })
    .collect();
    assert_snapshot!(told.join("\n"), @r#"
    "": mount has an empty key
    "type=cahce,target=/x": `cahce` is no mount type | did you mean `cache`?
    "type=bind,target=/x,tagret=/y": mount has no key `tagret` | did you mean `target`?
    "type=bind,target": mount key `target` needs a value
    "type=bind,target=/x,id=a": mount of type `bind` has no key `id`
    "type=bind,target=/x,mode=0700": mount of type `bind` has no key `mode`
    "type=cache": mount of type `cache` needs a `target`
    "type=cache,target=/x,required": mount of type `cache` has no key `required`
    "type=cache,target=/x,sharing=some": `some` is no way to share a cache | `sharing` is `shared`, `private` or `locked`
    "type=tmpfs,target=/x,size=much": `much` is no size | write a number with an optional unit, like `64m`
    "type=tmpfs,target=/x,from=y": mount of type `tmpfs` has no key `from`
    "type=secret": secret mount needs an `id`
    "type=secret,id=a,source=b": secret mount has both `id` and `source`
    "type=secret,id=a,from=b": mount of type `secret` has no key `from`
    "type=ssh,source=a": mount of type `ssh` has no key `source`
    "type=cache,target=/x/..": mount cannot have the target `/`
    "type=cache,target=/x,uid=-1": mount key `uid` is a number, not `-1`
    "type=cache,target=/x,mode=0x1": mount key `mode` is an octal mode, not `0x1`
    "type=cache,target=/x,ro=maybe": mount key `ro` is `true` or `false`, not `maybe`
    "type=cache,,target=/x": mount has an empty key
    "type=cache,tar\"get=/x": mount has a `"` that is not around a whole field
    "type=cache,\"target=/x": mount has a `"` that is not closed
    "#);
}

#[test]
fn values_expand_each_on_its_own() {
    let (file, diagnostics) =
        parse(b"FROM a\nRUN --mount=type=cache,target=$dir,sharing=${mode:-private} x");
    assert_eq!(diagnostics, []);
    let Kind::Run(run) = &file.stages[0].instructions[0].kind else { panic!("it is RUN") };
    let flag = &run.mounts[0];
    assert!(flag.has_variables());
    let mount = flag
        .resolve(|word| {
            // A comma in a value starts no new key.
            Ok(word.raw.replace("$dir", "/a,b").replace("${mode:-private}", "private"))
        })
        .expect("it resolves");
    let Mount::Cache(cache) = mount else { panic!("it is a cache") };
    assert_eq!((cache.target.as_str(), cache.sharing), ("/a,b", Sharing::Private));
    assert_eq!(cache.id, "/a,b");
}
