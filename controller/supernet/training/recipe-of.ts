// The recipe that a supernet was trained by, for whoever goes on with it: it says how images are augmented and looked at.
import type { Checkpoint } from '../checkpoint.ts';
import { parseRecipe, type RecipeTemplate } from './recipe.ts';
import { RECIPES } from './recipes.ts';

/** Weights that name no recipe of today (imported ones, or older files) get that of their kind of images: grey ones `fashion-tiny`'s, others `ofav2`'s. */
export function recipeOf({ space, recipe }: Pick<Checkpoint, 'space' | 'recipe'>): RecipeTemplate {
  const own = parseRecipe(recipe, 'The recipe of the supernet');
  if (own.ok) return own.value;
  return RECIPES[space.inputChannels === 1 ? 'fashion-tiny' : 'ofav2'] as RecipeTemplate;
}
