// The types of the modules' parameters.

@export()
@description('The tags of a resource.')
type tagSet = { *: string }

@export()
@description('A principal that gets a role.')
type user = {
  @description('Identifies the principal in the names of its role assignments. It must be known before the deployment: what-if skips resources whose names are not.')
  key: string

  @description('The object id.')
  id: string
  type: 'User' | 'Group' | 'ServicePrincipal'
}

@export()
@description('A deployment of a model.')
type deployment = {
  name: string
  model: string

  @description('Empty: the version that Azure deploys by default.')
  version: string
}
