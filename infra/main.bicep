// Everything that `azd up` creates: a resource group with the app, its identity, and a model that takes no keys.
targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('The name of the azd environment; names of resources come from it.')
param environmentName string

@description('Where all of it goes, but for what failoverLocation says.')
param location string

@description('Who deploys, and may use the model and read the caller key afterwards. Empty: nobody but the app.')
param principalId string = ''

@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@secure()
@description('The first caller key. azd makes one up once, and finds it in the vault again afterwards.')
param callerKey string

@description('A second region with the same deployments, tried when the first one throttles or fails; not with an existing account. Empty: none.')
param failoverLocation string = ''

@description('An Azure OpenAI account that is there already; nothing is created or changed on it but a role assignment. Empty: a new one.')
param existingAccountName string = ''

@description('The resource group of that account.')
param existingAccountResourceGroup string = ''

@description('A dated version such as 2024-10-21, or v1.')
param apiVersion string = 'v1'

@description('Model and deployment for chats. With an existing account, the name of its deployment.')
param chatModel string = 'gpt-5-mini'
param chatModelVersion string = '2025-08-07'

@description('Model and deployment for embeddings. With an existing account, the name of its deployment.')
param embeddingsModel string = 'text-embedding-3-small'
param embeddingsModelVersion string = '1'

@description('Thousands of tokens per minute of each deployment.')
param modelCapacity int = 50

@description('Calls that one instance carries at once. The platform\'s own default for Python is one.')
@minValue(1)
@maxValue(1000)
param concurrency int = 100

@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@minValue(1)
@maxValue(1000)
param maximumInstances int = 100

@description('Instances that are kept running, and paid for, so that nobody waits for a cold start.')
@minValue(0)
param alwaysReadyInstances int = 0

var token = uniqueString(subscription().id, environmentName, location)
var tags = { 'azd-env-name': environmentName }
var useExisting = !empty(existingAccountName)
var deployments = [
  { model: chatModel, version: chatModelVersion }
  { model: embeddingsModel, version: embeddingsModelVersion }
]
var deployer = empty(principalId) ? [] : [{ id: principalId, type: principalType }]

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'identity.bicep' = {
  scope: group
  params: { name: 'id-${token}', location: location, tags: tags }
}

var appItself = [{ id: identity.outputs.principalId, type: 'ServicePrincipal' }]
var users = concat(appItself, deployer)

module model 'model.bicep' = if (!useExisting) {
  scope: group
  params: {
    name: 'oai-${token}'
    location: location
    tags: tags
    deployments: deployments
    capacity: modelCapacity
    users: users
  }
}

module failoverModel 'model.bicep' = if (!useExisting && !empty(failoverLocation)) {
  scope: group
  params: {
    name: 'oai-${token}-2'
    location: failoverLocation
    tags: tags
    deployments: deployments
    capacity: modelCapacity
    users: users
  }
}

module existingModel 'existing-model.bicep' = if (useExisting) {
  scope: resourceGroup(useExisting ? existingAccountResourceGroup : group.name)
  params: { name: existingAccountName, users: users }
}

var firstEndpoint = useExisting ? existingModel!.outputs.endpoint : model!.outputs.endpoint
var failoverEndpoint = !useExisting && !empty(failoverLocation) ? ',${failoverModel!.outputs.endpoint}' : ''

module monitoring 'monitoring.bicep' = {
  scope: group
  params: { name: token, location: location, tags: tags, users: appItself }
}

module vault 'vault.bicep' = {
  scope: group
  params: { name: 'kv-${token}', location: location, tags: tags, callerKey: callerKey, users: users }
}

module app 'app.bicep' = {
  scope: group
  params: {
    name: 'func-${token}'
    storageName: 'st${token}'
    location: location
    tags: tags
    identityName: identity.outputs.name
    concurrency: concurrency
    instanceMemoryMB: instanceMemoryMB
    maximumInstances: maximumInstances
    alwaysReadyInstances: alwaysReadyInstances
    appInsightsName: monitoring.outputs.name
    callerKeysReference: vault.outputs.callerKeysReference
    endpoints: '${firstEndpoint}${failoverEndpoint}'
    apiVersion: apiVersion
    chatDeployment: chatModel
    otherDeployments: embeddingsModel
  }
}

output AZURE_FUNCTION_APP_NAME string = app.outputs.name
output AZURE_KEY_VAULT_NAME string = vault.outputs.name
output AZURE_RESOURCE_GROUP string = group.name
output APP_URL string = app.outputs.url
