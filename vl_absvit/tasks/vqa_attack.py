"""Questions about pictures that were attacked through the model that answers. Shapes: B questions, A answers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vl_absvit.data.collate import VQABatch
from vl_absvit.errors import InputError
from vl_absvit.evaluation.attack_plan import Attack
from vl_absvit.evaluation.attacks import attack_pictures, pixel_scale
from vl_absvit.losses import vqa_losses
from vl_absvit.precision import without_autocast
from vl_absvit.tasks.vl_checkpoint import Preprocessing


def attack_batch(model: nn.Module, batch: VQABatch, attack: Attack, preprocessing: Preprocessing) -> VQABatch:
    """The questions, each with a picture of its own that was changed to have it answered wrongly.

    The gradients, in fp32, are of the loss that the model was trained with: binary cross-entropy on the soft scores of
    the answers, summed. It rises; a targeted attack lowers that of the answer that is least likely at first, and reads
    no right answers. A question with no answer in the vocabulary is wrong anyway.

    Args:
        model: in evaluation mode.

    Raises:
        InputError: a loss or its gradient is not finite.
    """
    images, own = batch.images[batch.image_index], torch.arange(len(batch.image_index), device=batch.images.device)

    def logits_of(pictures: Tensor) -> Tensor:
        logits: Tensor = model(pictures, batch.token_ids, batch.is_token, own).logits
        return logits

    with without_autocast(images.device):
        goal = batch.soft_answers
        if attack.targeted:
            logits = logits_of(images)
            goal = F.one_hot(logits.argmin(dim=1), logits.shape[1]).to(logits)

        def losses_of(pictures: Tensor) -> Tensor:
            return vqa_losses(logits_of(pictures), goal)

        def scores_of(pictures: Tensor) -> Tensor:
            """What the answers are worth; all alike where right ones may be unknown, or another vocabulary's."""
            if attack.targeted:
                return goal.new_zeros(len(goal))
            return goal.gather(1, logits_of(pictures).argmax(dim=1, keepdim=True))[:, 0]

        scale = pixel_scale(preprocessing.image_mean, preprocessing.image_std, images)
        try:
            images = attack_pictures(images, losses_of, scores_of, attack, scale, batch.question_ids.tolist())
        except FloatingPointError as error:
            raise InputError(f"question {batch.question_ids[0].item()} and others of its batch: {error}") from error
    return batch._replace(images=images, image_index=own, image_ids=batch.image_ids[batch.image_index])
