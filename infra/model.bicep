// An Azure OpenAI account that takes no keys, its deployments, and who may use them.
param name string
param location string
param tags object

@description('Each a model, its version, and by the model\'s name a deployment: { model, version }.')
param deployments array

@description('Thousands of tokens per minute of each deployment.')
param capacity int

@description('Who may call the models: { id, type }.')
param users array

// Cognitive Services OpenAI User
var openAIUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    // Entra tokens are only taken at an address of the account's own.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

// One after the other: an account takes one change at a time.
@batchSize(1)
resource deployment 'Microsoft.CognitiveServices/accounts/deployments@2025-06-01' = [
  for item in deployments: {
    parent: account
    name: item.model
    sku: { name: 'GlobalStandard', capacity: capacity }
    properties: {
      model: { format: 'OpenAI', name: item.model, version: item.version }
      versionUpgradeOption: 'OnceCurrentVersionExpired'
    }
  }
]

resource mayUse 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    scope: account
    name: guid(account.id, user.id, openAIUser)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', openAIUser)
      principalId: user.id
      principalType: user.type
    }
  }
]

output endpoint string = account.properties.endpoint
