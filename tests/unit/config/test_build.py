"""Settings from flags, environment, config file and defaults."""

import msgspec
import pytest

from yeoul.config.build import build_settings
from yeoul.config.fields import setting_fields
from yeoul.config.settings import Settings
from yeoul.errors import ConfigError


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def refusal(flags=None, config_file=None, environment=None, **options):
    with pytest.raises(ConfigError) as caught:
        build_settings(flags or {}, config_file, environment or {}, **options)
    return caught.value.message


def test_without_anything_the_settings_are_the_defaults():
    assert build_settings({}, None, {}) == Settings()


def test_a_flag_wins_over_the_environment_which_wins_over_the_file_which_wins_over_the_default(tmp_path):
    config = write(tmp_path, "yeoul.toml", "port = 1\nmax_num_seqs = 1\nblock_size = 1\n")
    environment = {"YEOUL_PORT": "2", "YEOUL_MAX_NUM_SEQS": "2"}
    settings = build_settings({"port": "3"}, config, environment)
    assert settings.server.port == 3
    assert settings.scheduler.max_num_seqs == 2
    assert settings.cache.block_size == 1
    assert settings.server.host == "127.0.0.1"


def test_a_flag_that_was_not_given_hides_nothing():
    assert build_settings({"port": None}, None, {"YEOUL_PORT": "2"}).server.port == 2


def test_an_empty_variable_counts_as_not_set():
    assert build_settings({}, None, {"YEOUL_PORT": ""}).server.port == 8000


def test_a_variable_can_name_the_config_file_and_a_flag_wins_over_it(tmp_path):
    first, second = write(tmp_path, "a.toml", "port = 1"), write(tmp_path, "b.toml", "port = 2")
    assert build_settings({}, None, {"YEOUL_CONFIG": first}).server.port == 1
    assert build_settings({}, second, {"YEOUL_CONFIG": first}).server.port == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.toml", 'model = "m"\nserved-model-name = ["x", "y"]\n[cache]\nkv-cache-memory-bytes = "1GiB"\n'),
        ("a.yaml", "model: m\nserved_model_name: [x, y]\nkv-cache-memory-bytes: 1GiB\n"),
        ("a.yml", "model:\n  model: m\nserver:\n  served-model-name: [x, y]\ncache:\n  kv_cache_memory_bytes: 1073741824\n"),
        ("a.json", '{"model": "m", "served_model_name": ["x", "y"], "kv_cache_memory_bytes": 1073741824}'),
    ],
)
def test_a_config_file_is_toml_yaml_or_json_flat_or_in_groups(tmp_path, name, text):
    settings = build_settings({}, write(tmp_path, name, text), {})
    assert settings.model.model == "m"
    assert settings.server.served_model_name == ["x", "y"]
    assert settings.cache.kv_cache_memory_bytes == 1 << 30


@pytest.mark.parametrize("name", ["empty.yaml", "empty.toml"])
def test_an_empty_config_file_sets_nothing(tmp_path, name):
    assert build_settings({}, write(tmp_path, name, ""), {}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.toml", "prt = 1", "sets 'prt', which is no setting. Did you mean port?"),
        ("a.toml", "[cache]\nblok_size = 1", "Did you mean block_size?"),
        ("a.toml", "port = 1\n[server]\nport = 2", "sets port twice"),
        ("a.toml", "port = ", "is not valid TOML"),
        ("a.yaml", "port: [", "is not valid YAML"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "[1]", "expected a table of settings"),
        ("a.ini", "port=1", "ends in .ini; expected one of .toml, .yaml, .yml, .json"),
        ("a.toml", 'port = "x"', "a.toml is 'x'; expected a whole number from 0 to 65535"),
        ("a.toml", "port = 1.5", "expected a whole number from 0 to 65535"),
        ("a.toml", "port = true", "expected a whole number from 0 to 65535"),
        ("a.yaml", "model: [a, b]", "expected a text"),
        ("a.yaml", "max_num_seqs: " + "9" * 400, "expected a whole number from 1 to 65536"),
    ],
)
def test_a_config_file_that_cannot_work_says_why(tmp_path, name, text, expected):
    path = write(tmp_path, name, text)
    message = refusal(config_file=path)
    assert expected in message
    assert path in message


def test_a_missing_config_file_is_named(tmp_path):
    assert "No such file" in refusal(config_file=str(tmp_path / "none.toml"))


def test_a_config_file_of_bytes_is_refused(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8 text" in refusal(config_file=str(tmp_path / "a.toml"))


def test_an_unknown_name_is_an_error_that_names_the_nearest_known_one():
    assert refusal({"max_modl_len": 1}) == "--max-modl-len is no setting. Did you mean --max-model-len?"
    assert refusal({"max_modl_len": 1}, spell=str) == "max_modl_len is no setting. Did you mean max_model_len?"


def test_variables_of_others_that_begin_like_ours_are_named_and_nothing_more(caplog):
    others = {"YEOUL_VERSION": "0.1", "YEOUL_HOME": "/opt", "YEOUL_IMAGE_TAG": "", "YEOUL_MAX_MODL_LEN": "1", "YEOUL_": "x"}
    assert build_settings({}, None, others | {"YEOUL_PORT": "1"}).server.port == 1
    assert [record.args[0] for record in caplog.records if record.args] == list(others)
    assert "YEOUL_MAX_MODL_LEN is no setting and changes nothing. Did you mean YEOUL_MAX_MODEL_LEN?" in caplog.text


@pytest.mark.parametrize("variable", ["YEOUL_API_KEYS", "YEOUL_APIKEY", "YEOUL_SERVER_API_KEY"])
def test_a_variable_that_looks_like_a_key_is_an_error_since_the_server_would_be_open(variable):
    assert f"{variable} is no setting. Did you mean YEOUL_API_KEY?" in refusal(environment={variable: "secret"})


@pytest.mark.parametrize("value", ["", " ", ",", " ,  ", "\n"])
@pytest.mark.parametrize("field", ["api_key", "api_key_file"])
def test_a_key_that_is_given_and_empty_is_an_error_wherever_it_was_given(tmp_path, field, value):
    file = write(tmp_path, "keys", value)
    for wanted in (
        refusal(environment={f"YEOUL_{field.upper()}": value}),
        refusal({field: [value] if field == "api_key" else value}),
        refusal({field: value}, spell=str),
        refusal({}, write(tmp_path, "a.json", msgspec.json.encode({field: value}).decode())),
    ):
        assert field in wanted.lower().replace("-", "_")
        assert "expected a" in wanted
    if value.strip(", \n") == "" and "," not in value:
        assert f"--api-key-file {file} is empty; expected a key a line" in refusal({"api_key_file": file})


@pytest.mark.parametrize("text", ["api_key:", "api_key: []", "api_key: null", "api_key: ['', 'key']", "api_key_file:"])
def test_a_config_file_whose_secret_did_not_arrive_is_an_error(tmp_path, text):
    assert "expected a" in refusal({}, write(tmp_path, "a.yaml", text))


def test_a_damaged_line_of_a_config_file_may_have_a_key_and_is_not_shown(tmp_path):
    for name, text in (
        ("a.yaml", 'api_key: ["sk-secret"\nport: 1'),
        ("b.yaml", "api_key: 'sk-secret\n"),
        ("c.yaml", "api_key: sk-secret\n  - x: y: z"),
        ("a.json", '{"api_key": "sk-secret}'),
        ("a.toml", 'api_key = ["sk-secret"'),
    ):
        told = refusal({}, write(tmp_path, name, text))
        assert "is not valid" in told
        assert "secret" not in told


def test_keys_may_be_in_a_file_beside_others(tmp_path):
    file = write(tmp_path, "keys", "first\n\n  second  \r\n")
    assert build_settings({"api_key_file": file}, None, {}).server.api_key == ["first", "second"]
    both = build_settings({"api_key": ["flag"]}, None, {"YEOUL_API_KEY_FILE": file})
    assert both.server.api_key == ["flag", "first", "second"]
    assert "No such file" in refusal({"api_key_file": str(tmp_path / "gone")})
    (tmp_path / "keys").write_bytes(b"\xff")
    assert "cannot be read" in refusal({"api_key_file": file})


@pytest.mark.parametrize("level", ["INFO", " Info", "info"])
def test_choices_may_be_written_in_capitals(level):
    assert build_settings({}, None, {"YEOUL_LOG_LEVEL": level, "YEOUL_DTYPE": "AUTO"}).server.log_level == "info"


def test_a_name_like_no_other_is_an_error_without_a_guess():
    assert refusal({"zzzzzzzz": 1}) == "--zzzzzzzz is no setting."


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting():
    links = {
        "YEOUL_SERVICE_HOST": "10.0.0.1",
        "YEOUL_SERVICE_PORT": "80",
        "YEOUL_SERVICE_PORT_HTTP": "80",
        "YEOUL_PORT": "tcp://10.0.0.1:80",
        "YEOUL_PORT_80_TCP": "tcp://10.0.0.1:80",
        "YEOUL_PORT_80_TCP_ADDR": "10.0.0.1",
        "YEOUL_WEB_SERVICE_HOST": "10.0.0.2",
        "YEOUL_WEB_PORT": "tcp://10.0.0.2:80",
    }
    assert build_settings({}, None, links) == Settings()


def test_an_error_names_the_place_where_the_value_was_written():
    assert refusal({"port": "x"}).startswith("--port is 'x'; ")
    assert refusal({"port": "x"}, spell=str).startswith("port is 'x'; ")
    assert refusal(environment={"YEOUL_PORT": "x"}).startswith("YEOUL_PORT is 'x'; ")


def test_the_fake_model_is_on_no_device():
    assert "--device is cuda, and the fake model" in refusal({"model": "fake", "device": "cuda"})
    assert build_settings({"model": "fake", "device": "cpu"}, None, {}).model.device == "cpu"


def test_several_engines_are_this_servers_own():
    apart = {"engine_address": "tcp://127.0.0.1:5555", "engine_key_file": "keys"}
    assert "Leave one of the two out" in refusal({"data_parallel_size": 2, **apart})
    for wrong in (0, -1, 65, "two"):
        assert "--data-parallel-size" in refusal({"data_parallel_size": wrong})
    assert build_settings({"data_parallel_size": 64}, None, {}).parallel.data_parallel_size == 64


def test_prefill_engines_need_others_to_go_on_and_a_place_to_hand_over():
    two = {"data_parallel_size": 2, "kv_disk_bytes": 1 << 30}
    assert "expected fewer than the 2 engines" in refusal({**two, "num_prefill_engines": 2})
    assert "expected fewer than the 1 engines" in refusal({"kv_disk_bytes": 1 << 30, "num_prefill_engines": 1})
    assert "give --kv-disk-bytes" in refusal({"data_parallel_size": 2, "num_prefill_engines": 1})
    assert "give --kv-disk-bytes" in refusal({**two, "num_prefill_engines": 1, "enable_prefix_caching": False})
    assert build_settings({**two, "num_prefill_engines": 1}, None, {}).parallel.num_prefill_engines == 1


def test_a_headless_engine_needs_an_address():
    assert "give --engine-address as well" in refusal({"headless": True})


def test_an_address_needs_keys():
    message = refusal({"engine_address": "tcp://127.0.0.1:5555"}, environment={})
    assert "a tcp link is never open: give --engine-key-file" in message
    settings = build_settings({"engine_address": "tcp://[::1]:5555", "engine_key_file": "keys", "headless": True}, None, {})
    assert settings.transport.engine_address == "tcp://[::1]:5555"


@pytest.mark.parametrize(
    "address",
    ["5555", "tcp://host", "ipc:///tmp/x", "tcp://:5555", "tcp://host:0", "tcp://host:65535", "tcp://host:x", "tcp://h:1/x"],
)
def test_an_address_is_a_host_and_a_port_with_room_for_the_next_one(address):
    message = refusal({"engine_key_file": "keys"}, environment={"YEOUL_ENGINE_ADDRESS": address})
    assert message.startswith(f"YEOUL_ENGINE_ADDRESS is {address!r}; expected tcp://host:port")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ssl_keyfile": "k"}, "--ssl-keyfile does nothing without a certificate; give --ssl-certfile as well"),
        ({"ssl_cert_reqs": 2, "ssl_ca_certs": "a"}, "--ssl-ca-certs does nothing without a certificate"),
        ({"ssl_cert_reqs": 1}, "--ssl-cert-reqs does nothing without a certificate"),
        (
            {"ssl_certfile": "c", "ssl_cert_reqs": 2},
            "--ssl-cert-reqs 2 checks the certificates of clients; give --ssl-ca-certs",
        ),
        ({"ssl_certfile": "c", "ssl_ca_certs": "a"}, "--ssl-cert-reqs 0 asks for none; give --ssl-cert-reqs 2"),
        ({"ssl_certfile": "c", "ssl_ca_certs": "a", "ssl_cert_reqs": 3}, "expected a whole number from 0 to 2"),
    ],
)
def test_tls_settings_that_would_do_nothing_or_trust_nobody_are_refused(flags, message):
    assert message in refusal(flags, environment={})


@pytest.mark.parametrize("name", ["async_scheduling", "kv_disk_bytes", "kv_memory_bytes"])
def test_what_pipeline_stages_do_without_is_refused(name):
    value = True if name == "async_scheduling" else "1GiB"
    flag = f"--{name.replace('_', '-')} "
    message = refusal({"pipeline_parallel_size": 2, name: value}, environment={})
    assert message.startswith(flag)
    assert "--pipeline-parallel-size" in message


def test_tls_settings_that_go_together_are_taken():
    settings = build_settings({"ssl_certfile": "c", "ssl_ca_certs": "a", "ssl_cert_reqs": "1"}, None, {})
    assert settings.server.ssl_cert_reqs == 1
    assert build_settings({"ssl_cert_reqs": 0}, None, {}).server.ssl_certfile is None
    assert refusal(environment={"YEOUL_SSL_KEYFILE": "k"}).startswith("YEOUL_SSL_KEYFILE does nothing")


def test_every_setting_has_a_description_and_its_default_is_one_that_it_accepts():
    fields = setting_fields()
    assert len(fields) > 30
    for name, field in fields.items():
        assert field.description.endswith("."), name
        assert field.group_title, name
        if field.default not in (None, []):
            settings = build_settings({name: field.default}, None, {})
            assert getattr(getattr(settings, field.group), name) == field.default


def test_settings_survive_the_border_between_processes():
    settings = build_settings({"kv_cache_memory_bytes": "2GiB", "api_key": ["a", "b"]}, None, {})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings) == settings
