// Whether images and a space belong together; said before anything is computed.
import type { Space } from '../../space.ts';
import type { Dataset } from '../data/dataset.ts';
import type { Recipe } from './recipe.ts';

/** Why these images cannot train this space, or null. */
export function misfitOf(space: Space, recipe: Recipe, { name, train: images, validation, test }: Dataset): string | null {
  if (images.channels !== space.inputChannels) {
    return `The images of ${name} have ${images.channels} channel(s), space ${space.name} takes ${space.inputChannels}; change its inputChannels, mean and std.`;
  }
  if (images.classes > space.classes) {
    return `${name} has labels up to ${images.classes - 1}, space ${space.name} has ${space.classes} classes; set its classes to ${images.classes}.`;
  }
  if (images.count < recipe.batch) {
    return `${name} has ${images.count} training images, one batch of recipe ${recipe.name} needs ${recipe.batch}: give more images.`;
  }
  if (validation.count === 0 || test.count === 0) {
    return `${name} has ${validation.count} validation and ${test.count} test images, at least 1 of each is needed: give more images.`;
  }
  return null;
}
