use super::*;

fn findings(text: &str) -> String {
    match Config::parse("gimbal.yaml", text, Path::new("/etc/gimbal")) {
        Ok(config) => format!("{config:#?}"),
        Err(findings) => findings.iter().map(|finding| format!("{finding}\n\n")).collect(),
    }
}

const FULL: &str = r#"
pipeline: shop
source:
  url: postgresql://gimbal@127.0.0.1:5432/shop?sslmode=verify-full
  password_file: secrets/pw
  slot: gimbal_shop
  publication: gimbal_shop
contracts: contracts
schemas: /srv/schemas
state: state
sink:
  kafka: {bootstrap: "127.0.0.1:9092", replication: 3, properties: {security.protocol: SASL_SSL}}
registry: {url: "https://host/apis/ccompat/v7", username: me, password_env: REGISTRY_PASSWORD}
listen: 127.0.0.1:8642
api_token: {file: state/api.token}
keys: {seal: {file: state/seal.key}, email_key: {env: EMAIL_KEY}}
receivers:
  default: {alertmanager: "http://127.0.0.1:9093"}
  orders-data: {webhook: "https://example.org/hook", secret_env: HOOK_SECRET}
"#;

#[test]
fn a_full_config_is_accepted_and_its_paths_are_joined_to_its_folder() {
    insta::assert_snapshot!(findings(FULL));
}

#[test]
fn a_short_config_takes_the_embedded_defaults() {
    let text = "pipeline: shop-eu\nsource: {url: \"postgresql://u@h/d\"}\n";
    let config = Config::parse("gimbal.yaml", text, Path::new("x")).unwrap();
    assert_eq!(config.source.slot, "gimbal_shop_eu");
    assert!(matches!(config.sink, SinkConfig::Files { path } if path == Path::new("x/topics")));
    assert!(matches!(config.registry, RegistryConfig::Embedded));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8642");
}

#[test]
fn every_error_of_a_config_is_reported_with_its_line() {
    insta::assert_snapshot!(findings(
        r#"
pipeline: Shop
sorce: {url: "mysql://h/d"}
source: {url: "mysql://h/d", slot: Gimbal-Shop, password: x}
sink: {kafka: {bootstrap: "h:1", replication: many}, files: {path: topics}}
registry: none
listen: 8642
listen: here
api_token: abc
keys: {seal: {file: a, env: B}}
receivers: [a]
"#
    ));
}

#[test]
fn the_embedded_registry_is_refused_with_kafka() {
    let with = FULL
        .replace("{url: \"https://host/apis/ccompat/v7\", username: me, password_env: REGISTRY_PASSWORD}", "embedded");
    insta::assert_snapshot!(findings(&with));
    let without = "pipeline: shop\nsource: {url: \"postgresql://u@h/d\"}\nsink: {kafka: {bootstrap: \"h:9092\"}}\n";
    assert!(findings(without).contains("error[E0110]"));
}

#[test]
fn a_registry_takes_several_urls_one_login_and_an_authority() {
    let with = |registry: &str| {
        findings(&format!("pipeline: shop\nsource: {{url: \"postgresql://u@h/d\"}}\nregistry: {{{registry}}}\n"))
    };
    let fine = with("url: \"https://a/x, https://b\", token_env: TOKEN, ca_file: ca.pem");
    assert!(fine.contains("\"TOKEN\"") && fine.contains("/etc/gimbal/ca.pem"), "{fine}");
    assert!(with("url: \"https://a,ftp://b\"").contains("must begin with `http://`"));
    assert!(with("url: \"https://a\", username: u, token_env: TOKEN").contains("both `username` and `token_env`"));
}

#[test]
fn a_password_in_the_url_is_refused_and_not_shown() {
    let text = "pipeline: shop\nsource: {url: \"postgresql://u:hunter2@h/d?sslmode=require\"}\n";
    let shown = findings(text);
    insta::assert_snapshot!(shown);
    assert!(!shown.contains("hunter2"));
    // Not even when the file is no YAML at all.
    assert!(!findings("source: [postgresql://u:hunter2@h/d\n").contains("hunter2"));
}

#[test]
fn the_sample_config_is_valid_and_never_holds_the_password() {
    let text = sample("shop", "postgresql://u:hunter2@127.0.0.1:5432/shop?sslmode=verify-full");
    assert!(!text.contains("hunter2"));
    let config = Config::parse("gimbal.yaml", &text, Path::new("")).unwrap();
    assert_eq!(config.source.url, "postgresql://u@127.0.0.1:5432/shop?sslmode=verify-full");
    assert_eq!(config.contracts, Path::new("contracts"));
    insta::assert_snapshot!(text);
}
