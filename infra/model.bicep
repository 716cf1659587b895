// An Azure OpenAI account that accepts no keys, its deployments, and the role assignments for their users.
param name string
param location string
param tags object

@description('The models to deploy, each { model, version }. A deployment has the name of its model.')
param deployments array

@description('The capacity of each deployment, in thousands of tokens a minute.')
param capacity int

@description('The principals that may call the models, each { id, type }.')
param users array

// The role Cognitive Services OpenAI User.
var openAIUser = '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'

resource account 'Microsoft.CognitiveServices/accounts@2025-06-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    // Azure accepts Entra tokens only on an account's own subdomain.
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: 'Enabled'
  }
}

// In sequence, because an account accepts one change at a time.
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
