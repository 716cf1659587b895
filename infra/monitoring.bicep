// Application Insights, which accepts telemetry only from Entra identities.
import { tagSet, user } from 'types.bicep'

param name string
param workspaceName string
param location string
param tags tagSet

@description('The number of days for which the workspace keeps logs.')
param retentionInDays int

@description('The principals that may send telemetry.')
param users user[]

// The role Monitoring Metrics Publisher.
var metricsPublisher = '3913510d-42f4-4e42-8a64-420c390055eb'

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: retentionInDays
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource maySend 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for user in users: {
    scope: insights
    name: guid(insights.id, user.key, metricsPublisher)
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsPublisher)
      principalId: user.id
      principalType: user.type
    }
  }
]
