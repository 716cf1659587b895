// All resources of `azd up`: a resource group with the app, its identity and models that accept no keys.
targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('The name of the azd environment. The names of the resources derive from it.')
param environmentName string

// azd offers the regions that have enough quota. It can read only literals here, so a test compares them with models.json.
@metadata({
  azd: {
    type: 'location'
    usageName: ['OpenAI.GlobalStandard.gpt-5.4-mini,50', 'OpenAI.GlobalStandard.text-embedding-3-small,50']
  }
})
@description('The region of all resources, unless the models have another one.')
param location string

@description('The principal that deploys. It may call new models, and read the caller keys. Empty: only the app may.')
param principalId string = ''

@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@secure()
@description('The first caller key. Later deployments leave the key in the vault as it is.')
param callerKey string = newGuid()

@description('How callers authenticate: with caller keys, with Entra ID tokens, or with both.')
@allowed(['keys', 'tokens', 'both'])
param callerAuthentication string = 'keys'

@description('The tenant whose tokens the app accepts. Empty: the tenant of the subscription.')
param callerTenantId string = ''

@description('The audiences that the app accepts, separated by commas: identifier URI and client id of a registration.')
param callerAudience string = ''

@description('The app role that a token must have.')
param callerRole string = 'Model.Invoke'

@description('Names of callers for logs and metrics: name=OBJECT-OR-CLIENT-ID, separated by commas. Empty: their ids.')
param callerNames string = ''

@description('The origins of web pages that may call the app, separated by commas, or * for all pages. Empty: none.')
param corsAllowedOrigins string = ''

@description('The region of the models. Empty: the same one.')
param modelLocation string = ''

@description('A second region with the same deployments, for when the first one throttles or fails. Empty: none.')
param failoverLocation string = ''

@description('The model for chats. Empty: the one in models.json.')
param chatModel string = ''

@description('The version of chatModel. Empty: the one that Azure deploys by default.')
param chatModelVersion string = ''

@description('The model for embeddings. Empty: the one in models.json.')
param embeddingsModel string = ''

@description('The version of embeddingsModel. Empty: the one that Azure deploys by default.')
param embeddingsModelVersion string = ''

@description('The capacity of each deployment, in units of 1,000 tokens and 1 request a minute.')
@minValue(1)
param modelCapacity int = 50

@description('Where the deployments may process data, and how they are billed.')
param modelSku string = 'GlobalStandard'

@description('An existing Azure OpenAI account. The app may call it, and nothing else changes there. Empty: a new account.')
param existingAccountName string = ''

@description('The resource group of the existing account.')
param existingAccountResourceGroup string = ''

@description('The deployment for chats in the existing account.')
param chatDeployment string = ''

@description('The deployment for embeddings in the existing account. Empty: none.')
param embeddingsDeployment string = ''

@description('Further deployments in the account, and aliases: images,openai/tts=speech. Empty: none.')
param otherDeployments string = ''

@description('The API version: v1, or a dated one such as 2024-10-21.')
param apiVersion string = 'v1'

@description('The number of concurrent calls per instance. The default of the platform for Python is one.')
@minValue(1)
@maxValue(1000)
param concurrency int = 100

@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@minValue(1)
@maxValue(1000)
param maximumInstances int = 100

@description('The number of instances that always run, and cost money, so that no call waits for a cold start.')
@minValue(0)
param alwaysReadyInstances int = 0

// Application Insights keeps its tables for 90 days at least. https://learn.microsoft.com/azure/azure-monitor/logs/data-retention-configure
@description('The number of days for which the workspace keeps logs.')
@minValue(90)
@maxValue(730)
param logRetentionDays int = 90

var models = loadJsonContent('models.json')
var token = uniqueString(subscription().id, environmentName, location)
var tags = { 'azd-env-name': environmentName }
// Regions may be written like 'Sweden Central', and names of accounts end in them.
var modelRegion = toLower(replace(empty(modelLocation) ? location : modelLocation, ' ', ''))
var failoverRegion = toLower(replace(failoverLocation, ' ', ''))
var identityName = 'id-func-${token}'
var storageName = 'st${token}'
var insightsName = 'appi-${token}'

// Callers name a deployment by its role, so that another model breaks no caller.
var chat = {
  name: 'chat'
  model: empty(chatModel) ? models.chat.model : chatModel
  version: empty(chatModel) ? models.chat.version : chatModelVersion
}
var embeddings = {
  name: 'embeddings'
  model: empty(embeddingsModel) ? models.embeddings.model : embeddingsModel
  version: empty(embeddingsModel) ? models.embeddings.version : embeddingsModelVersion
}
var newNames = concat(
  [embeddings.name],
  map(union([chat.model, models.chat.model], models.chat.formerNames), alias => '${alias}=${chat.name}'),
  map(
    union([embeddings.model, models.embeddings.model], models.embeddings.formerNames),
    alias => '${alias}=${embeddings.name}'
  )
)

var useExisting = !empty(existingAccountName)
var useFailover = empty(failoverRegion)
  ? false
  : useExisting
      ? fail('FAILOVER_LOCATION needs a new account: unset it, or unset EXISTING_OPENAI_ACCOUNT.')
      : failoverRegion == modelRegion
          ? fail('Set FAILOVER_LOCATION to another region than that of the models, or unset it.')
          : true
var existingGroup = useExisting && empty(existingAccountResourceGroup)
  ? fail('Set EXISTING_OPENAI_RESOURCE_GROUP to the resource group of the account.')
  : existingAccountResourceGroup
var existingChat = useExisting && empty(chatDeployment)
  ? fail('Set CHAT_DEPLOYMENT to the name of a deployment in the existing account.')
  : chatDeployment
var existingNames = concat(
  ['${chat.name}=${existingChat}'],
  empty(embeddingsDeployment) ? [] : ['${embeddings.name}=${embeddingsDeployment}']
)
// The app checks these names.
var furtherNames = empty(otherDeployments) ? [] : [otherDeployments]

var useKeys = callerAuthentication != 'tokens'
var tokenSettings = callerAuthentication == 'keys'
  ? {}
  : {
      CALLER_TENANT_ID: empty(callerTenantId) ? tenant().tenantId : callerTenantId
      CALLER_AUDIENCE: empty(callerAudience)
        ? fail('Set CALLER_AUDIENCE to the identifier URI and the client id of the registration.')
        : callerAudience
      CALLER_ROLE: callerRole
      CALLER_NAMES: callerNames
    }

// The host compares whole origins with those that browsers send, and `*` with nothing unless it is alone.
// https://github.com/Azure/azure-functions-host/blob/dev/src/WebJobs.Script.WebHost/Configuration/CorsOptionsSetup.cs
var origins = empty(corsAllowedOrigins) ? [] : map(split(toLower(corsAllowedOrigins), ','), origin => trim(origin))
// An origin has three parts: the scheme, nothing, and the host with its port.
var mistakes = filter(
  map(origins, origin => split(replace(origin, '*', '/'), '/')),
  parts => length(parts) != 3 || !contains(['http:', 'https:'], first(parts)) || empty(last(parts))
)
var allowedOrigins = origins == ['*'] || empty(mistakes)
  ? origins
  : fail('Set CORS_ALLOWED_ORIGINS to origins such as https://app.example, without a path or a slash at the end, or to * alone.')

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  params: { name: identityName, location: location, tags: tags }
}

var appUser = { key: identityName, id: identity.outputs.principalId, type: 'ServicePrincipal' }
var deployer = empty(principalId) ? [] : [{ key: principalId, id: principalId, type: principalType }]
var users = concat([appUser], deployer)

module model 'model.bicep' = if (!useExisting) {
  scope: group
  params: {
    name: 'oai-${token}-${modelRegion}'
    location: modelRegion
    tags: tags
    deployments: [chat, embeddings]
    capacity: modelCapacity
    sku: modelSku
    users: users
  }
}

module failoverModel 'model.bicep' = if (useFailover) {
  scope: group
  params: {
    name: 'oai-${token}-${failoverRegion}'
    location: failoverRegion
    tags: tags
    deployments: [chat, embeddings]
    capacity: modelCapacity
    sku: modelSku
    users: users
  }
}

// The deployer of an existing account may have a role there already, and Azure rejects a second assignment of it.
module existingModel 'existing-model.bicep' = if (useExisting) {
  scope: resourceGroup(useExisting ? existingGroup : group.name)
  params: { name: existingAccountName, users: [appUser] }
}

var firstEndpoint = useExisting ? existingModel!.outputs.endpoint : model!.outputs.endpoint
var failoverEndpoint = useFailover ? ',${failoverModel!.outputs.endpoint}' : ''

module monitoring 'monitoring.bicep' = {
  scope: group
  params: {
    name: insightsName
    workspaceName: 'log-${token}'
    location: location
    tags: tags
    retentionInDays: logRetentionDays
    users: [appUser]
  }
}

module vault 'vault.bicep' = if (useKeys) {
  scope: group
  params: { name: 'kv-${token}', location: location, tags: tags, callerKey: callerKey, users: users }
}

// Not in the module of the app: a role takes minutes to apply, and the app needs this one as soon as it is published.
module storage 'storage.bicep' = {
  scope: group
  params: {
    name: storageName
    location: location
    tags: tags
    identityName: identityName
    principalId: identity.outputs.principalId
  }
}

module app 'app.bicep' = {
  scope: group
  params: {
    name: 'func-${token}'
    storageName: storageName
    location: location
    tags: tags
    identityName: identityName
    concurrency: concurrency
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    alwaysReadyInstances: alwaysReadyInstances
    appInsightsName: insightsName
    callerSettings: union(useKeys ? { CALLER_KEYS: vault!.outputs.callerKeysReference } : {}, tokenSettings)
    allowedOrigins: allowedOrigins
    endpoints: '${firstEndpoint}${failoverEndpoint}'
    apiVersion: apiVersion
    chatDeployment: useExisting ? existingChat : chat.name
    otherDeployments: join(concat(useExisting ? existingNames : newNames, furtherNames), ',')
  }
  dependsOn: [monitoring, storage]
}

output AZURE_FUNCTION_APP_NAME string = app.outputs.name
output AZURE_KEY_VAULT_NAME string = useKeys ? vault!.outputs.name : ''
output AZURE_OPENAI_ACCOUNT_NAME string = useExisting ? existingAccountName : model!.outputs.name
output AZURE_RESOURCE_GROUP string = group.name
output APP_URL string = app.outputs.url
