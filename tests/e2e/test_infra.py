"""Test what `azd up` would create, with Microsoft's Bicep compiler: no key, and everything that the app needs."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from infra import check_dates
from infra.check_dates import expiring
from shared.settings import Settings
from tests.support.bicep import INFRA, SUBSCRIPTION, TENANT, bicep, compiled, needs_bicep, parameters, snapshot
from tests.support.javascript import NODE_FOLDER, needs_node
from tests.support.processes import PROJECT, Json

MODULES = ("app", "existingModel", "identity", "model", "monitoring", "storage", "vault")
FILES = sorted(INFRA.glob("*.bicep"))
DEPLOY = (PROJECT / "docs" / "deploy.md").read_text()
MODELS = json.loads((INFRA / "models.json").read_text())
# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
ROLES = {
    "5e0bd9bd-7b93-4f28-af87-19fc36ad61bd": "Cognitive Services OpenAI User",
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
    "4633458b-17de-408a-b874-0445c86b69e6": "Key Vault Secrets User",
}
# Settings of the host and of libraries, below the pages that document them.
FOREIGN_SETTINGS = {
    # https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    # https://learn.microsoft.com/azure/azure-functions/functions-app-settings
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    # https://learn.microsoft.com/python/api/overview/azure/identity-readme#environment-variables
    "AZURE_TOKEN_CREDENTIALS",
}
# Functions and properties that return keys, and parts of connection strings that contain them.
KEYS = re.compile(
    r"\blist\w*(keys|secrets|sas)\w*\(|AccountKey=|SharedAccess|\.key[12]\b|primaryKey|InstrumentationKey", re.IGNORECASE
)
DEPLOYER = "11111111-1111-1111-1111-111111111111"
# The variables that azd always has.
AZD = {
    "AZURE_ENV_NAME": "dev",
    "AZURE_LOCATION": "swedencentral",
    "AZURE_PRINCIPAL_ID": DEPLOYER,
}
EXISTING = {"EXISTING_OPENAI_ACCOUNT": "ours", "EXISTING_OPENAI_RESOURCE_GROUP": "rg-ours", "CHAT_DEPLOYMENT": "gpt-prod"}
OTHERS = {"OTHER_DEPLOYMENTS": "images,speech,openai/tts=speech"}
CLIENT_ID = "44444444-4444-4444-4444-444444444444"
AUDIENCE = f"api://{TENANT}/gateway,{CLIENT_ID}"
OTHER_TENANT = "55555555-5555-5555-5555-555555555555"
TOKENS = {"CALLER_AUTHENTICATION": "tokens", "CALLER_AUDIENCE": AUDIENCE}
BOTH = {
    "CALLER_AUTHENTICATION": "both",
    "CALLER_TENANT_ID": OTHER_TENANT,
    "CALLER_AUDIENCE": AUDIENCE,
    "CALLER_ROLE": "Chat",
    "CALLER_NAMES": f"team-a={DEPLOYER}",
}

ALWAYS = {
    "resourceGroups rg-dev",
    "userAssignedIdentities id-func-TOKEN",
    "workspaces log-TOKEN",
    "components appi-TOKEN",
    "vaults kv-TOKEN",
    "vaults/secrets kv-TOKEN/caller-keys",
    "storageAccounts stTOKEN",
    "storageAccounts/blobServices stTOKEN/default",
    "storageAccounts/blobServices/containers stTOKEN/default/packages",
    "serverfarms plan-func-TOKEN",
    "sites func-TOKEN",
    "sites/config func-TOKEN/appsettings",
    "sites/basicPublishingCredentialsPolicies func-TOKEN/scm",
    "sites/basicPublishingCredentialsPolicies func-TOKEN/ftp",
    "app: Storage Blob Data Owner on stTOKEN",
    "app: Storage Table Data Contributor on stTOKEN",
    "app: Monitoring Metrics Publisher on appi-TOKEN",
    "app: Key Vault Secrets User on kv-TOKEN",
}
DEPLOYER_READS = "User: Key Vault Secrets User on kv-TOKEN"
VAULT = {
    "vaults kv-TOKEN",
    "vaults/secrets kv-TOKEN/caller-keys",
    "app: Key Vault Secrets User on kv-TOKEN",
    DEPLOYER_READS,
}


def region(name: str, *principals: str) -> set[str]:
    account = f"oai-TOKEN-{name}"
    users = {f"{principal}: Cognitive Services OpenAI User on {account}" for principal in principals}
    return {
        f"accounts {account}",
        f"accounts/deployments {account}/chat",
        f"accounts/deployments {account}/embeddings",
    } | users


DEFAULT = {*ALWAYS, *region("swedencentral", "app", "User"), DEPLOYER_READS}
ON_EXISTING = {*ALWAYS, "app: Cognitive Services OpenAI User on ours", DEPLOYER_READS}
# The variables of an azd environment, and the resources and role assignments that they lead to.
SETS = {
    "default": ({}, DEFAULT),
    "two regions": ({"FAILOVER_LOCATION": "eastus2"}, DEFAULT | region("eastus2", "app", "User")),
    "models in another region": (
        {"MODEL_LOCATION": "East US 2"},
        {*ALWAYS, *region("eastus2", "app", "User"), DEPLOYER_READS},
    ),
    "no principal, without azd": ({"AZURE_PRINCIPAL_ID": ""}, ALWAYS | region("swedencentral", "app")),
    "a pipeline": (
        {"AZURE_PRINCIPAL_TYPE": "ServicePrincipal"},
        {
            *ALWAYS,
            *region("swedencentral", "app", "ServicePrincipal"),
            DEPLOYER_READS.replace("User", "ServicePrincipal", 1),
        },
    ),
    "existing account": (EXISTING, ON_EXISTING),
    "existing account with embeddings": (EXISTING | {"EMBEDDINGS_DEPLOYMENT": "embed-prod"}, ON_EXISTING),
    "existing account with other deployments": (EXISTING | OTHERS, ON_EXISTING),
    "existing account, no principal": (EXISTING | {"AZURE_PRINCIPAL_ID": ""}, ON_EXISTING - {DEPLOYER_READS}),
    "tokens": (TOKENS, DEFAULT - VAULT),
    "both, existing account": (BOTH | EXISTING, ON_EXISTING),
    "keys, with a registration for later": (BOTH | {"CALLER_AUTHENTICATION": "keys"}, DEFAULT),
    "dated API version": ({"MODEL_API_VERSION": "2024-10-21"}, DEFAULT),
    "models of one's own": (
        {"CHAT_MODEL": "gpt-5.5", "CHAT_MODEL_VERSION": "2027-01-01", "EMBEDDINGS_MODEL": "text-embedding-4"},
        DEFAULT,
    ),
    "a former model": ({"CHAT_MODEL": "gpt-5-mini", "CHAT_MODEL_VERSION": "2025-08-07"}, DEFAULT),
    "other deployments": (OTHERS, DEFAULT),
    "sizes": (
        {
            "ALWAYS_READY_INSTANCES": "2",
            "MAXIMUM_INSTANCES": "7",
            "INSTANCE_CONCURRENCY": "50",
            "INSTANCE_MEMORY_MB": "512",
            "MODEL_CAPACITY": "9",
            "MODEL_SKU": "DataZoneStandard",
            "LOG_RETENTION_DAYS": "180",
        },
        DEFAULT,
    ),
    "some web pages": ({"CORS_ALLOWED_ORIGINS": "https://App.example, http://localhost:5173"}, DEFAULT),
    "all web pages": ({"CORS_ALLOWED_ORIGINS": "*"}, DEFAULT),
}
CALLER_KEYS = {"CALLER_KEYS": "default=" + "a" * 36}
TOKEN_SETTINGS = {
    "CALLER_TENANT_ID": TENANT,
    "CALLER_AUDIENCE": AUDIENCE,
    "CALLER_ROLE": "Model.Invoke",
    "CALLER_NAMES": "",
}
BOTH_SETTINGS = CALLER_KEYS | {name: value for name, value in BOTH.items() if name in TOKEN_SETTINGS}
# The settings that say who may call the app, for the sets where they are more than keys.
CALLERS = {
    "tokens": TOKEN_SETTINGS,
    "both, existing account": BOTH_SETTINGS,
}
# The origins whose pages may call the app, for the sets where there are any.
ORIGINS = {
    "some web pages": ["https://app.example", "http://localhost:5173"],
    "all web pages": ["*"],
}


class Deployment:
    """What a deployment would create, as the compiler evaluates it offline."""

    def __init__(self, found: Json) -> None:
        self.text = json.dumps(found)
        self.resources: list[Json] = found["predictedResources"]
        self.outputs: Json = found["outputs"]
        site = next(item["name"] for item in self.resources if item["type"] == "Microsoft.Web/sites")
        self.token = site.removeprefix("func-")

    def of_type(self, kind: str) -> list[Json]:
        return [item for item in self.resources if item["type"].partition("/")[2] == kind]

    def names(self) -> list[str]:
        """Return `TYPE NAME` for each resource, and `PRINCIPAL: ROLE on NAME` for each role assignment."""
        names = [
            self.role(item) if item["type"].endswith("/roleAssignments") else self.name(item) for item in self.resources
        ]
        return [name.replace(self.token, "TOKEN") for name in names]

    def name(self, resource: Json) -> str:
        return f"{resource['type'].partition('/')[2]} {resource['name']}"

    def role(self, assignment: Json) -> str:
        properties = assignment["properties"]
        scope = assignment["id"].partition("/providers/Microsoft.Authorization/")[0].rpartition("/")[2]
        principal = properties["principalType"]
        if properties["principalId"] != DEPLOYER:
            # Its id is known only when the identity exists.
            assert re.search(
                r"outputs\.principalId\.value|/id-func-\w+', '[\d-]+'\)\.principalId", properties["principalId"]
            )
            assert principal == "ServicePrincipal"
            principal = "app"
        return f"{principal}: {ROLES[properties['roleDefinitionId'].rpartition('/')[2]]} on {scope}"

    def app_settings(self) -> dict[str, str]:
        """Return the app settings, with values instead of the expressions that only Azure can evaluate."""
        (settings,) = self.of_type("sites/config")
        values: dict[str, str] = settings["properties"]
        endpoints = re.findall(r"outputs\.endpoint\.value", values["AZURE_OPENAI_ENDPOINT"])
        separators = re.findall(r"format\(',\{0\}'", values["AZURE_OPENAI_ENDPOINT"])
        assert len(endpoints) == len(separators) + 1
        assert values["AZURE_CLIENT_ID"].endswith(".clientId]")
        if "CALLER_KEYS" in values:
            assert "outputs.callerKeysReference" in values["CALLER_KEYS"]
            values = values | CALLER_KEYS
        return values | {
            "AZURE_CLIENT_ID": "00000000-0000-0000-0000-000000000000",
            "AZURE_OPENAI_ENDPOINT": ",".join(f"https://{number}.openai.azure.com/" for number, _ in enumerate(endpoints)),
        }

    def settings(self) -> Settings:
        settings = Settings.from_env(self.app_settings(), Path("absent.env"))
        assert settings.warnings == ()
        return settings


class Deployments(dict[str, Deployment]):
    """The deployments of SETS by name, each evaluated when a test first needs it, as that takes about 2 seconds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Deployment:
        found, error = snapshot(self.folder, parameters(**AZD | SETS[name][0]))
        assert not error, error
        self[name] = Deployment(found)
        return self[name]


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Deployments:
    return Deployments(tmp_path_factory.mktemp("snapshots"))


@pytest.fixture
def default(deployments: Deployments) -> Deployment:
    return deployments["default"]


@needs_bicep
class TestTemplates:
    def test_they_compile_without_a_warning(self) -> None:
        # `build` reports the warnings of the modules, too.
        assert set(compiled()["resources"]) >= set(MODULES)
        run = bicep("lint", INFRA / "main.bicep")
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")

    def test_a_warning_is_found(self, tmp_path: Path) -> None:
        shutil.copytree(INFRA, tmp_path, dirs_exist_ok=True)
        with (tmp_path / "vault.bicep").open("a") as file:
            file.write("param unused object\n")
        run = bicep("lint", tmp_path / "main.bicep")
        assert {"no-unused-params", "use-user-defined-types"} <= set(re.findall(r"Warning ([\w-]+):", run.stderr))

    def test_they_are_formatted(self, tmp_path: Path) -> None:
        shutil.copytree(INFRA, tmp_path, dirs_exist_ok=True)
        run = bicep("format", "--pattern", tmp_path / "**" / "*.bicep")
        assert (run.returncode, run.stderr) == (0, "")
        files = sorted(INFRA.rglob("*.bicep"))
        assert [file for file in files if (tmp_path / file.relative_to(INFRA)).read_text() != file.read_text()] == []

    def test_a_deployment_again_leaves_the_caller_keys_as_they_are(self) -> None:
        (secret,) = (item for item in compiled("vault")["resources"].values() if item["type"].endswith("/secrets"))
        assert secret["@options"] == {"onlyIfNotExists": []}
        assert compiled()["parameters"]["callerKey"] == {
            "type": "securestring",
            "defaultValue": "[newGuid()]",
            "metadata": {"description": "The first caller key. Later deployments leave the key in the vault as it is."},
        }
        assert "callerKey" not in parameters(**AZD)

    def test_the_outputs_name_the_secret_and_do_not_contain_it(self) -> None:
        reference = "[format('@Microsoft.KeyVault(VaultName={0};SecretName={1})', parameters('name'), 'caller-keys')]"
        assert compiled("vault")["outputs"]["callerKeysReference"]["value"] == reference
        outputs = [
            *compiled()["outputs"].values(),
            *(out for name in MODULES for out in compiled(name).get("outputs", {}).values()),
        ]
        assert len(outputs) > 10
        assert [output for output in outputs if "callerKey'" in str(output) or KEYS.search(str(output))] == []

    def test_an_account_of_the_kind_ai_services_is_called_at_its_endpoint_for_openai(self) -> None:
        for_openai = "tryGet(reference('account').endpoints, 'OpenAI Language Model Instance API')"
        value = compiled("existingModel")["outputs"]["endpoint"]["value"]
        assert value == f"[coalesce({for_openai}, reference('account').endpoint)]"

    def test_azd_offers_regions_with_quota_for_the_default_models(self) -> None:
        metadata = compiled()["parameters"]["location"]["metadata"]["azd"]
        values = parameters(**AZD)
        usage = [f"OpenAI.{values['modelSku']}.{model['model']},{values['modelCapacity']}" for model in MODELS.values()]
        assert metadata == {"type": "location", "usageName": usage}

    def test_azd_asks_only_for_what_has_no_default(self) -> None:
        values = parameters(AZURE_ENV_NAME="dev", AZURE_LOCATION="swedencentral")
        required = {name for name, entry in compiled()["parameters"].items() if "defaultValue" not in entry}
        assert required == {"environmentName", "location"}
        assert values["location"] == "swedencentral"

    @pytest.mark.parametrize("page", ["README.md", *(f"docs/{file.name}" for file in (PROJECT / "docs").glob("*.md"))])
    def test_azd_has_the_values_that_the_documentation_reads(self, page: str) -> None:
        names = set(re.findall(r"azd env get-value (\w+)", (PROJECT / page).read_text()))
        # azd itself sets the first two.
        assert names <= set(compiled()["outputs"]) | {"AZURE_LOCATION", "AZURE_SUBSCRIPTION_ID"}
        assert names or page != "README.md"


@needs_bicep
class TestDeployments:
    @pytest.mark.parametrize("name", SETS)
    def test_it_has_exactly_these_resources_and_roles(self, deployments: Deployments, name: str) -> None:
        names = deployments[name].names()
        assert len(names) == len(set(names))
        assert set(names) == SETS[name][1]

    @pytest.mark.parametrize("name", SETS)
    def test_what_if_knows_every_name(self, deployments: Deployments, name: str) -> None:
        assert [item["name"] for item in deployments[name].resources if "(" in item["name"] + item["id"]] == []

    @pytest.mark.parametrize("name", SETS)
    def test_it_reads_no_key_and_nothing_accepts_one(self, deployments: Deployments, name: str) -> None:
        found = deployments[name]
        assert not KEYS.search(found.text)
        (storage,) = found.of_type("storageAccounts")
        assert storage["properties"]["allowSharedKeyAccess"] is False
        assert storage["properties"]["allowBlobPublicAccess"] is False
        assert all(
            "publicAccess" not in container.get("properties", {})
            for container in found.of_type("storageAccounts/blobServices/containers")
        )
        for account in found.of_type("accounts"):
            assert account["properties"]["disableLocalAuth"] is True
            assert account["properties"]["customSubDomainName"] == account["name"]
        for policy in found.of_type("sites/basicPublishingCredentialsPolicies"):
            assert policy["properties"] == {"allow": False}
        assert all(insights["properties"]["DisableLocalAuth"] for insights in found.of_type("components"))
        assert all(vault["properties"]["enableRbacAuthorization"] for vault in found.of_type("vaults"))

    @pytest.mark.parametrize("name", SETS)
    def test_the_app_accepts_its_settings(self, deployments: Deployments, name: str) -> None:
        settings = deployments[name].settings()
        assert settings.use_identity
        assert len(settings.endpoints) == (2 if name == "two regions" else 1)

    @pytest.mark.parametrize("name", SETS)
    def test_callers_authenticate_as_the_operator_chose(self, deployments: Deployments, name: str) -> None:
        found = deployments[name]
        expected = CALLERS.get(name, CALLER_KEYS)
        assert {key: value for key, value in found.app_settings().items() if key.startswith("CALLER_")} == expected
        assert bool(found.outputs["AZURE_KEY_VAULT_NAME"]) == ("CALLER_KEYS" in expected)
        entra = found.settings().entra
        assert (entra.tenant_id if entra else None) == expected.get("CALLER_TENANT_ID")

    @pytest.mark.parametrize("name", SETS)
    def test_only_web_pages_of_the_allowed_origins_may_call_the_app(self, deployments: Deployments, name: str) -> None:
        (app,) = deployments[name].of_type("sites")
        cors = {"allowedOrigins": ORIGINS.get(name, []), "supportCredentials": False}
        assert app["properties"]["siteConfig"]["cors"] == cors

    @pytest.mark.parametrize("name", SETS)
    def test_every_setting_exists(self, deployments: Deployments, name: str) -> None:
        example = json.loads((PROJECT / "local.settings.json.example").read_text())
        assert set(deployments[name].app_settings()) <= set(example["Values"]) | FOREIGN_SETTINGS

    @pytest.mark.parametrize("name", SETS)
    def test_every_model_is_the_operators_choice_or_has_a_date(self, deployments: Deployments, name: str) -> None:
        dated = {(model["model"], model["version"]) for model in MODELS.values()}
        chosen = set(SETS[name][0].values())
        for item in deployments[name].of_type("accounts/deployments"):
            model = item["properties"]["model"]
            assert model["name"] in chosen or (model["name"], model["version"]) in dated

    @pytest.mark.parametrize("name", [name for name in SETS if "existing" not in name])
    def test_callers_may_name_roles_models_and_former_models(self, deployments: Deployments, name: str) -> None:
        found = deployments[name]
        names = found.settings().deployments
        for role, model in MODELS.items():
            assert names[role] == role
            assert names[model["model"]] == role
            assert {names[former] for former in model["formerNames"]} <= {role}
        for item in found.of_type("accounts/deployments"):
            assert names[item["properties"]["model"]["name"]] == item["name"].rpartition("/")[2]

    def test_callers_name_deployments_of_an_existing_account_by_name_or_role(self, deployments: Deployments) -> None:
        assert deployments["existing account"].settings().deployments == {"gpt-prod": "gpt-prod", "chat": "gpt-prod"}
        assert deployments["existing account with embeddings"].settings().deployments == {
            "gpt-prod": "gpt-prod",
            "embed-prod": "embed-prod",
            "chat": "gpt-prod",
            "embeddings": "embed-prod",
        }

    @pytest.mark.parametrize(
        ("name", "others"),
        [("default", "other deployments"), ("existing account", "existing account with other deployments")],
    )
    def test_callers_may_name_the_operators_other_deployments_too(
        self, deployments: Deployments, name: str, others: str
    ) -> None:
        further = {"images": "images", "speech": "speech", "openai/tts": "speech"}
        assert deployments[others].settings().deployments == {**deployments[name].settings().deployments, **further}

    def test_the_host_signs_in_to_its_storage_with_the_identity(self, default: Deployment) -> None:
        (settings,) = default.of_type("sites/config")
        values = settings["properties"]
        assert values["AzureWebJobsStorage__credential"] == "managedidentity"
        assert values["AzureWebJobsStorage__clientId"] == values["AZURE_CLIENT_ID"]
        assert "AzureWebJobsStorage" not in values
        assert values["AZURE_TOKEN_CREDENTIALS"] == "ManagedIdentityCredential"
        assert "Authorization=AAD" in values["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"]

    def test_the_app_runs_on_flex_consumption(self, default: Deployment) -> None:
        (plan,), (app,) = default.of_type("serverfarms"), default.of_type("sites")
        assert plan["sku"]["name"] == "FC1"
        config = app["properties"]["functionAppConfig"]
        assert config["runtime"] == {"name": "python", "version": "3.13"}
        assert config["scaleAndConcurrency"] == {
            "alwaysReady": [],
            "instanceMemoryMB": 2048,
            "maximumInstanceCount": 100,
            "triggers": {"http": {"perInstanceConcurrency": 100}},
        }
        assert config["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"
        assert app["properties"]["keyVaultReferenceIdentity"] in app["identity"]["userAssignedIdentities"]
        assert app["properties"]["httpsOnly"] is True

    def test_sizes_are_variables_of_azd(self, deployments: Deployments) -> None:
        found = deployments["sizes"]
        assert found.of_type("sites")[0]["properties"]["functionAppConfig"]["scaleAndConcurrency"] == {
            "alwaysReady": [{"name": "http", "instanceCount": 2}],
            "instanceMemoryMB": 512,
            "maximumInstanceCount": 7,
            "triggers": {"http": {"perInstanceConcurrency": 50}},
        }
        skus = [item["sku"] for item in found.of_type("accounts/deployments")]
        assert skus == [{"name": "DataZoneStandard", "capacity": 9}] * 2
        assert found.of_type("workspaces")[0]["properties"]["retentionInDays"] == 180
        assert deployments["dated API version"].app_settings()["AZURE_OPENAI_API_VERSION"] == "2024-10-21"

    def test_a_model_without_a_version_gets_azures_default_version(self, deployments: Deployments) -> None:
        chat, embeddings = deployments["models of one's own"].of_type("accounts/deployments")
        assert chat["properties"]["model"] == {"format": "OpenAI", "name": "gpt-5.5", "version": "2027-01-01"}
        assert embeddings["properties"]["model"]["name"] == "text-embedding-4"
        assert embeddings["properties"]["model"].get("version") is None

    def test_azd_finds_the_app_by_its_tag(self, default: Deployment) -> None:
        service = re.search(r"services:\n  (\w+):\n", (PROJECT / "azure.yaml").read_text())
        assert service
        assert default.of_type("sites")[0]["tags"]["azd-service-name"] == service[1]

    def test_the_existing_account_may_be_in_another_resource_group(self, deployments: Deployments) -> None:
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-ours/"
        (role,) = (item for item in deployments["existing account"].resources if "/accounts/ours/" in item["id"])
        assert role["id"].startswith(group)

    @pytest.mark.parametrize(
        ("variables", "advice"),
        [
            ({**EXISTING, "EXISTING_OPENAI_RESOURCE_GROUP": ""}, "Set EXISTING_OPENAI_RESOURCE_GROUP"),
            ({**EXISTING, "CHAT_DEPLOYMENT": ""}, "Set CHAT_DEPLOYMENT"),
            ({**EXISTING, "FAILOVER_LOCATION": "eastus2"}, "FAILOVER_LOCATION needs a new account"),
            ({"FAILOVER_LOCATION": "Sweden Central"}, "Set FAILOVER_LOCATION to another region"),
            ({**TOKENS, "CALLER_AUDIENCE": ""}, "Set CALLER_AUDIENCE"),
            ({**BOTH, "CALLER_AUDIENCE": ""}, "Set CALLER_AUDIENCE"),
            ({"CALLER_AUTHENTICATION": "token"}, "'both' | 'keys' | 'tokens'"),
            *(
                ({"CORS_ALLOWED_ORIGINS": origins}, "Set CORS_ALLOWED_ORIGINS")
                for origins in (
                    "https://app.example/",
                    "app.example",
                    "ftp://app.example",
                    "https://",
                    "https://*.example",
                    "*,https://app.example",
                )
            ),
        ],
    )
    def test_a_mistake_stops_the_deployment_and_is_named(
        self, tmp_path: Path, variables: dict[str, str], advice: str
    ) -> None:
        found, error = snapshot(tmp_path, parameters(**AZD | variables))
        assert not found
        assert advice in error


class TestDocumentation:
    def test_it_has_every_variable_of_azd_with_its_default(self) -> None:
        given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"].values()
        variables = dict(re.findall(r"\$\{(\w+)=?(.*?)\}", " ".join(entry["value"] for entry in given)))
        # The login sets these.
        for name in ("AZURE_ENV_NAME", "AZURE_PRINCIPAL_ID", "AZURE_PRINCIPAL_TYPE"):
            del variables[name]
        rows = re.findall(r"^\| (`[A-Z_`, ]+`) \| .+ \| (.+) \|$", DEPLOY, re.MULTILINE)
        documented = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
        assert set(documented) == set(variables)
        words = {name: default.strip("`") for name, default in documented.items()}
        for name, default in variables.items():
            assert words[name] == default or (not default and words[name].startswith(("none", "the same", "as in [")))

    def test_each_error_of_azd_up_has_advice_and_a_source(self) -> None:
        table = DEPLOY.partition("### When `azd up` stops")[2].partition("\n### ")[0]
        rows = [row.split(" | ") for row in table.strip().splitlines()[2:]]
        assert len(rows) > 20
        for row in rows:
            assert len(row) == 4, row
            assert re.search(r"\]\((https://|\.\./infra/)", row[3]), row


class TestModels:
    def test_each_has_a_date_and_a_source(self) -> None:
        assert set(MODELS) == {"chat", "embeddings"}
        for model in MODELS.values():
            assert set(model) == {"model", "version", "retires", "source", "read", "formerNames"}
            assert date.fromisoformat(model["read"]) < date.fromisoformat(model["retires"])
            assert model["source"].startswith("https://learn.microsoft.com/")
            assert model["model"] not in model["formerNames"]

    @pytest.mark.parametrize(
        ("today", "expected"), [("2026-12-17", 0), ("2026-12-18", 1), ("2027-03-18", 2), ("2027-06-01", 2)]
    )
    def test_the_check_fails_90_days_before_a_model_retires(self, today: str, expected: int) -> None:
        models = {
            "chat": {"model": "a", "version": "1", "retires": "2027-03-18", "source": "page"},
            "embeddings": {"model": "b", "version": "1", "retires": "2027-04-15", "source": "page"},
        }
        assert len(expiring(models, date.fromisoformat(today))) == expected

    @needs_bicep
    def test_the_check_warns_of_old_api_versions(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(INFRA, tmp_path, dirs_exist_ok=True)
        vault = tmp_path / "vault.bicep"
        vault.write_text(re.sub(r"vaults@[\d-]+", "vaults@2022-07-01", vault.read_text()))
        monkeypatch.setattr(check_dates, "INFRA", tmp_path)
        assert "Warning use-recent-api-versions" in check_dates.old_api_versions()

    def test_no_other_file_names_a_model_that_retires(self) -> None:
        names = {name for model in MODELS.values() for name in (model["model"], *model["formerNames"])}
        pages = [
            PROJECT / "README.md",
            *(PROJECT / "docs").glob("*.md"),
            *(PROJECT / "local").rglob("*.py"),
            *PROJECT.glob("*.example"),
        ]
        assert [(page.name, name) for page in pages for name in sorted(names | {"gpt-4o"}) if name in page.read_text()] == []


@needs_node
class TestSyntax:
    """A parser for Bicep, where the compiler is missing."""

    def errors(self, *files: Path) -> list[list[int]]:
        command = ["node", "bicep.js", *map(str, files)]
        run = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, check=True)
        errors: list[list[int]] = json.loads(run.stdout)
        return errors

    def test_every_file_is_valid(self) -> None:
        assert self.errors(*FILES) == [[]] * len(FILES)

    @pytest.mark.parametrize("mistake", ["param a string = {\n", "resource a 'b@c' = \n", "module m 'm' = { params: [ }\n"])
    def test_a_syntax_error_is_found(self, tmp_path: Path, mistake: str) -> None:
        broken = tmp_path / "broken.bicep"
        broken.write_text((INFRA / "model.bicep").read_text() + mistake)
        (found,) = self.errors(broken)
        assert found


@needs_bicep
@pytest.mark.deep
def test_checkov_finds_only_what_is_listed_with_a_reason(deployments: Deployments, tmp_path: Path) -> None:
    # Its requirements are its own. It checks the evaluated resources, because it cannot read a template with symbolic names.
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", "checkov==3.3.30"], check=True)
    template = tmp_path / "template.json"
    schema = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
    resources = deployments["two regions"].resources
    template.write_text(json.dumps({"$schema": schema, "contentVersion": "1.0.0.0", "resources": resources}))
    command = [
        str(programs / "checkov"),
        "--file",
        str(template),
        "--framework",
        "arm",
        "--skip-download",
        "--output",
        "json",
    ]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": os.environ["PATH"]})
    report = json.loads(run.stdout)
    assert report["summary"]["resource_count"] >= len(resources)
    found = {check["check_id"] for check in report["results"]["failed_checks"]}
    listed = set(re.findall(r"^  - (CKV_\w+)", (INFRA / "checkov.yaml").read_text(), re.MULTILINE))
    assert found == listed
