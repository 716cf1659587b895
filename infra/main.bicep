// All resources of `azd up`: a resource group with the app, its identity and a model that accepts no keys.
targetScope = 'subscription'

@minLength(1)
@maxLength(64)
@description('The name of the azd environment. The names of the resources derive from it.')
param environmentName string

@description('The region of all resources but those in failoverLocation.')
param location string

@description('The principal that deploys. It may call the model and read the caller key afterwards. Empty: only the app may.')
param principalId string = ''

@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@secure()
@description('The first caller key. azd generates it once, and later finds it in the vault.')
param callerKey string

@description('A second region with the same deployments, for when the first one throttles or fails. Not for an existing account. Empty: none.')
param failoverLocation string = ''

@description('An existing Azure OpenAI account. It gets role assignments and no other change. Empty: a new account.')
param existingAccountName string = ''

@description('The resource group of the existing account.')
param existingAccountResourceGroup string = ''

@description('The API version: v1, or a dated one such as 2024-10-21.')
param apiVersion string = 'v1'

@description('The model for chats, and the name of its deployment. With an existing account, the name of a deployment there.')
param chatModel string = 'gpt-5-mini'
param chatModelVersion string = '2025-08-07'

@description('The model for embeddings, and the name of its deployment. With an existing account, the name of a deployment there.')
param embeddingsModel string = 'text-embedding-3-small'
param embeddingsModelVersion string = '1'

@description('The capacity of each deployment, in thousands of tokens a minute.')
param modelCapacity int = 50

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
